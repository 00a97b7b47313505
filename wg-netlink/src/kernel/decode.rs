//! Reads what the kernel answers. Total: any bytes give a value or an error.

/// Why bytes are not an answer to the request.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// A length runs past the bytes that are there.
    #[error("a length in the message runs past its end")]
    Truncated,
}
