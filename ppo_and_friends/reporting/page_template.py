"""How the one-page report looks."""

from __future__ import annotations

STYLE = """
:root { --ink: #1f2937; --soft: #6b7280; --line: #e5e7eb; --blue: #0072b2; --paper: #ffffff; --back: #f3f4f6 }
* { box-sizing: border-box }
body { margin: 0; background: var(--back); color: var(--ink); font: 15px/1.5 system-ui, sans-serif }
main { max-width: 1080px; margin: 0 auto; padding: 32px 20px 64px }
header h1 { margin: 0; font-size: 30px; line-height: 1.2 }
header p { margin: 4px 0 0; color: var(--soft) }
section { background: var(--paper); border: 1px solid var(--line); border-radius: 10px;
          margin-top: 20px; padding: 18px 22px; overflow: hidden }
h2 { margin: 0 0 12px; font-size: 18px }
h3 { margin: 16px 0 6px; font-size: 14px; color: var(--soft); font-weight: 600 }
.cards { display: flex; flex-wrap: wrap; gap: 12px; margin-top: 20px }
.card { flex: 1 1 auto; background: var(--paper); border: 1px solid var(--line); border-radius: 10px;
  padding: 12px 16px }
.card b { display: block; font-size: 19px; line-height: 1.4; white-space: nowrap;
  letter-spacing: -0.01em; font-variant-numeric: tabular-nums }
.card span { color: var(--soft); font-size: 13px }
.plots { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 8px 16px }
.plots > div { min-width: 0 }
.plots > div:first-child { grid-column: 1 / -1 }
table { border-collapse: collapse; width: 100%; font-size: 14px; font-variant-numeric: tabular-nums }
th, td { text-align: left; padding: 5px 10px 5px 0; border-bottom: 1px solid var(--line);
         vertical-align: top }
th { color: var(--soft); font-weight: 600 }
td.number, th.number { text-align: right }
tfoot td { font-weight: 600 }
.side { display: flex; flex-wrap: wrap; gap: 28px; align-items: flex-start }
.side > * { flex: 1 1 320px; min-width: 0 }
.side > figure { flex: 0 1 420px; margin: 0 }
figure img, figure video { width: 100%; border-radius: 6px; border: 1px solid var(--line); display: block }
figcaption { color: var(--soft); font-size: 13px; margin-top: 4px }
.settings { columns: 2; column-gap: 32px }
.settings > div { break-inside: avoid }
td.value { font-family: ui-monospace, monospace; font-size: 13px; overflow-wrap: anywhere }
pre { background: var(--back); border-radius: 6px; padding: 10px 14px; white-space: pre-wrap;
      overflow-wrap: anywhere; font-size: 13px; margin: 0 }
footer { color: var(--soft); font-size: 13px; margin-top: 20px }
@media (max-width: 760px) { .plots { grid-template-columns: minmax(0, 1fr) } .settings { columns: 1 } }
@media print { body { background: #fff } section { break-inside: avoid } }
"""

TEMPLATE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>{{ name }}: {{ timesteps }} timesteps</title>
<style>{{ style | safe }}</style>
</head>
<body>
<main>
<header>
<h1>{{ name }}</h1>
<p>{{ subtitle }}</p>
</header>
<div class="cards">
{% for card in cards %}<div class="card"><b>{{ card.value }}</b><span>{{ card.label }}</span></div>
{% endfor %}</div>
<section id="curves">
<h2>Learning curves</h2>
<div class="plots">
{% for plot in plots %}<div>{{ plot | safe }}</div>
{% endfor %}</div>
</section>
{% if episodes or video %}
<section id="evaluation">
<h2>Test of the policy</h2>
<div class="side">
{% if episodes %}
<div>
<table>
<thead><tr><th>episode</th><th class="number">return</th><th class="number">steps</th></tr></thead>
<tbody>
{% for episode in episodes %}
<tr><td>{{ loop.index }}</td><td class="number">{{ episode.return }}</td>
<td class="number">{{ episode.length }}</td></tr>
{% endfor %}
</tbody>
<tfoot><tr><td>mean</td><td class="number">{{ mean }} ± {{ std }}</td><td class="number"></td></tr></tfoot>
</table>
<h3>{{ how }}</h3>
</div>
{% endif %}
{% if video %}
<figure>
{% if video.kind == "image" %}<img src="{{ video.data }}" alt="an episode of the trained policy">
{% else %}<video src="{{ video.data }}" controls loop muted autoplay playsinline></video>{% endif %}
<figcaption>{{ video.name }}</figcaption>
</figure>
{% endif %}
</div>
</section>
{% endif %}
<section id="settings">
<h2>Settings</h2>
<div class="settings">
{% for group, rows in settings %}
<div>
<h3>{{ group }}</h3>
<table>
{% for key, value in rows %}<tr><td>{{ key }}</td><td class="value">{{ value }}</td></tr>
{% endfor %}</table>
</div>
{% endfor %}
</div>
</section>
<section id="origin">
<h2>How it was made</h2>
{% if history %}
<h3>Sessions</h3>
<table>
<thead><tr><th class="number">from timestep</th><th>begun</th><th class="number">ranks</th>
<th>changed settings</th></tr></thead>
<tbody>
{% for session in history %}
<tr><td class="number">{{ session.timesteps }}</td><td>{{ session.when }}</td>
<td class="number">{{ session.ranks }}</td><td>{{ session.changes }}</td></tr>
{% endfor %}
</tbody>
</table>
{% endif %}
<h3>Command line</h3>
<pre>{{ command }}</pre>
<h3>Versions</h3>
<pre>{{ versions }}</pre>
</section>
<footer>{{ footer }}</footer>
</main>
</body>
</html>
"""
