"""The web console: pages for people, over the API alone. A process of its own on every host."""
