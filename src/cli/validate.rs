//! `vprov validate`.

use std::sync::Arc;

use serde_json::json;

use super::{Terminal, Wrong, args::Validate, exit::Exit, session};
use crate::{
    diag::SourceMap,
    report::{
        json::{VALIDATE_FORMAT, pretty},
        text::count,
    },
};

/// Checks the documents; no host is contacted.
pub fn run(args: &Validate, terminal: &Terminal) -> Result<Exit, Wrong> {
    let sources = Arc::new(SourceMap::new());
    let (found, hosts) = match session::load(&args.documents, &sources) {
        Ok((_, hosts, warnings)) => (warnings, Some(hosts.len())),
        Err(diagnostics) => (diagnostics, None),
    };
    if args.json {
        let document = json!({
            "format": VALIDATE_FORMAT,
            "vprov": env!("CARGO_PKG_VERSION"),
            "valid": hosts.is_some(),
            "diagnostics": found.to_json(&sources),
        });
        terminal.report(&pretty(&document));
    } else {
        terminal.diagnose(&found, &sources);
        if let Some(hosts) = hosts {
            terminal.report(&format!("{} is valid: {}\n", args.documents.hosts.display(), count(hosts, "host")));
        }
    }
    Ok(if hosts.is_some() { Exit::Clean } else { Exit::Usage })
}
