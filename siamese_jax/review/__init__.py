"""What a reader looks at: events grouped by focus, the signal packed for a browser, one page that needs no network."""
