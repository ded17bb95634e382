"""The app: a page on which pictures are dropped, looked at, protected and fetched again, without a command line."""
