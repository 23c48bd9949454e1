//! Stage 1: files to documents with places, documents and facts to the declarations of one host.

pub mod yaml;
pub mod node;
pub mod de;
pub mod range;
pub mod fold;

pub use node::{Key, Map, Node, Taint, Value};
