//! vprov brings virtualization hosts (KVM and Xen) to a declared state.
//!
//! ```text
//! hosts.yaml + playbooks + modules ──load──▶ documents with spans
//! documents + facts of a host ──expand, merge──▶ catalog (typed resources)     pure
//! catalog ──order──▶ graph                                                     pure
//! graph ──reads, in rounds──▶ Observed           the only I/O of planning
//! graph + Observed ──compare──▶ plan: changes, each a list of operations       pure
//! plan ──operations──▶ executor on the host      the only code that changes one
//! events ──▶ reports
//! ```
//!
//! The modules below stand in reading order, and each imports only from those above it; `tests/layers.rs` checks that.

pub mod diag;
pub mod address;
pub mod host;
pub mod event;
pub mod os;
pub mod transport;
pub mod config;
pub mod facts;
pub mod resource;
pub mod catalog;
pub mod graph;
pub mod plan;
pub mod apply;
pub mod rollout;
pub mod fleet;
pub mod schema;
pub mod report;
pub mod cli;
#[cfg(test)]
mod laws;
