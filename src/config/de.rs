//! Values of a document to typed parameters.

use serde::de::DeserializeOwned;

use super::node::Node;
use crate::diag::{Diagnostic, Diagnostics};

/// Takes a value as a type.
///
/// # Errors
/// What does not fit, with its place.
pub fn parse<T: DeserializeOwned>(node: &Node) -> Result<T, Diagnostics> {
    let fail = |error: serde_json::Error| {
        let mut diagnostics = Diagnostics::new();
        diagnostics.push(Diagnostic::error(error.to_string()).at(node.span));
        diagnostics
    };
    serde_json::from_value(serde_json::to_value(node).map_err(fail)?).map_err(fail)
}
