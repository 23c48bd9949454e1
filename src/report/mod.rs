//! What people and programs are shown. The only module that words plans and results; it knows no kind.

pub mod text;
pub mod diff;
pub mod plan;
pub mod applied;
pub mod undo;
pub mod history;
pub mod facts;
pub mod redact;
pub mod json;
pub mod manual;
