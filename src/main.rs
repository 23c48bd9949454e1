//! The `vprov` program.

fn main() {}
