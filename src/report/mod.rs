//! What people and programs are shown. The only module that words plans and results; it knows no kind.

pub mod text;
pub mod diff;
pub mod group;
pub mod summary;
pub mod plan;
pub mod applied;
pub mod undo;
pub mod history;
pub mod facts;
pub mod redact;
pub mod json;
pub mod markdown;
pub mod html;
pub mod junit;
pub mod manual;
