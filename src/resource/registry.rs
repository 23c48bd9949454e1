//! [`Registry`]: what the language asks of the kinds.

use super::{KINDS, Kind};
use crate::{
    config::{FileParameter, Kinds, Node},
    diag::Diagnostics,
};

/// All kinds, as the language sees them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Registry;

impl Kinds for Registry {
    fn names(&self) -> Vec<&'static str> {
        KINDS.iter().map(|kind| kind.name).collect()
    }

    fn check(&self, kind: &str, params: &Node) -> Diagnostics {
        Kind::find(kind).and_then(|kind| (kind.parse)(params).err()).unwrap_or_default()
    }

    fn file_parameters(&self, kind: &str) -> &'static [FileParameter] {
        Kind::find(kind).map_or(&[], |kind| kind.file_parameters)
    }
}
