"""What of the documentation is written from the code: reference pages, and helpers of the site's build."""
