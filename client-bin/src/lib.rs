//! The client: a second factor, then the tunnel.
