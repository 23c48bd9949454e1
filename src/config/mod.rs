//! Stage 1: files to documents with places, documents and facts to the declarations of one host.

pub mod yaml;
pub mod node;
pub mod de;
pub mod range;
pub mod fold;
pub mod size;
pub mod expr;
pub mod body;
pub mod module;
pub mod vars;
pub mod inventory;
pub mod limit;
mod load;
pub mod embedded;

pub use node::{Key, Map, Node, Taint, Value};
