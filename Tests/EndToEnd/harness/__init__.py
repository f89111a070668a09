"""What the end-to-end tests share: a cluster, tokens, clients, waiting."""
