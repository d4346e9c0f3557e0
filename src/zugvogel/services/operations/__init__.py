"""The product's operations, one method each, as `zugvogel.ports.backend.Backend` lists them."""
