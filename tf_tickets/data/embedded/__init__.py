"""Small real samples that come with the package; NOTICE.md has their licences."""
