//! The narrow waist: what can be asked of a host, and done to it.

pub mod bytes;
pub mod path;
