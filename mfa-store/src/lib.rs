//! wg-mfa's state in SQLite or PostgreSQL.
