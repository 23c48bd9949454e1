//! `--limit PATTERN[,PATTERN]`: names, ranges, globs and groups; `!` excludes.

use std::sync::Arc;

use super::inventory::{HostSpec, Inventory, Pattern};
use crate::diag::{Diagnostic, Diagnostics, SourceMap, Span};

/// Returns the hosts that a limit selects, in the order of the inventory. Where it only excludes, it begins with all. `name`
/// is what people know it by, as `--limit`.
///
/// # Errors
/// A name that is neither a host nor a group, a pattern that matches nothing, or a selection without any host.
pub fn select(
    inventory: &Inventory,
    name: &str,
    limit: &str,
    sources: &SourceMap,
) -> Result<Vec<Arc<HostSpec>>, Diagnostics> {
    let source = sources.add(name, limit);
    let mut diagnostics = Diagnostics::new();
    let mut chosen: Vec<Option<bool>> = vec![None; inventory.hosts().len()];
    let mut any_included = false;
    for (start, piece) in pieces(limit) {
        let text = piece.trim();
        let start = start + (piece.len() - piece.trim_start().len());
        let (text, start, included) = match text.strip_prefix('!') {
            Some(rest) => (rest.trim_start(), start + 1, false),
            None => (text, start, true),
        };
        let span = Span::new(source, start..start + text.len());
        any_included |= included;
        match find(inventory, text, span, sources) {
            Ok(found) => {
                for at in found {
                    // An exclusion holds wherever it stands.
                    if let Some(state) = chosen.get_mut(at)
                        && *state != Some(false)
                    {
                        *state = Some(included);
                    }
                }
            }
            Err(diagnostic) => diagnostics.push(diagnostic),
        }
    }
    if diagnostics.has_errors() {
        return Err(diagnostics);
    }
    let hosts: Vec<_> = inventory
        .hosts()
        .iter()
        .zip(&chosen)
        .filter(|(_, state)| state.unwrap_or(!any_included))
        .map(|(host, _)| Arc::clone(host))
        .collect();
    if hosts.is_empty() {
        return Err(Diagnostic::error("the limit selects no host").at(Span::new(source, 0..limit.len())).into());
    }
    Ok(hosts)
}

fn find(inventory: &Inventory, text: &str, span: Span, sources: &SourceMap) -> Result<Vec<usize>, Diagnostic> {
    if text.is_empty() {
        return Err(Diagnostic::error("a name or pattern is missing").at(span));
    }
    if let Some(members) = inventory.members(text) {
        return Ok(members.to_vec());
    }
    match Pattern::read(text, span, sources)? {
        Pattern::Glob(glob) => {
            let hosts = inventory.hosts().iter().enumerate();
            let mut found: Vec<usize> =
                hosts.filter(|(_, host)| glob.is_match(&*host.name)).map(|(at, _)| at).collect();
            for group in inventory.groups().iter().filter(|group| glob.is_match(&*group.name)) {
                found.extend(inventory.members(&group.name).unwrap_or_default());
            }
            if found.is_empty() {
                return Err(Diagnostic::error(format!("`{text}` matches no host and no group")).at(span));
            }
            Ok(found)
        }
        Pattern::Names(names) => names
            .iter()
            .map(|name| {
                inventory.position(name).ok_or_else(|| {
                    let groups = inventory.groups().iter().map(|group| &*group.name);
                    let known = groups.chain(inventory.hosts().iter().take(20_000).map(|host| &*host.name));
                    Diagnostic::error(format!("unknown host or group `{name}`")).at(span).suggest(name, known)
                })
            })
            .collect(),
    }
}

/// Cuts at the commas that stand in no brackets; each piece comes with its offset.
fn pieces(text: &str) -> Vec<(usize, &str)> {
    let (mut pieces, mut start, mut depth) = (Vec::new(), 0, 0_usize);
    for (at, c) in text.char_indices() {
        match c {
            '[' => depth += 1,
            ']' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                pieces.push((start, &text[start..at]));
                start = at + 1;
            }
            _ => {}
        }
    }
    pieces.push((start, &text[start..]));
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::yaml;

    fn check(limit: &str, expected: &str) {
        let map = SourceMap::new();
        let text = "hosts: { 'kvm[01-04].x': {}, xen01: {}, localhost: { connection: local } }\n\
                    groups: { kvm: { hosts: ['kvm*'] }, all_x: { groups: [kvm, xen] }, xen: { hosts: [xen01] } }\n";
        let (inventory, _) = Inventory::read(&yaml::read("t", text, &map).unwrap(), &[], &map).unwrap();
        let found = match select(&inventory, "--limit", limit, &map) {
            Ok(hosts) => hosts.iter().map(|host| &*host.name).collect::<Vec<_>>().join(" "),
            Err(errors) => errors.render(&map, false).lines().next().unwrap_or_default().to_owned(),
        };
        assert_eq!(found, expected, "{limit}");
    }

    #[test]
    fn limits_select_hosts() {
        check("xen01", "xen01");
        check("kvm", "kvm01.x kvm02.x kvm03.x kvm04.x");
        check("all_x, !kvm[02-03].x", "kvm01.x kvm04.x xen01");
        check("!kvm", "xen01 localhost");
        check("!kvm*,!xen", "localhost");
        check("kvm[01,03].x", "kvm01.x kvm03.x");
        check("*1*", "kvm01.x xen01");
        check("!xen01,xen01", "--limit:1:1: error: the limit selects no host");
        check("xen0l", "--limit:1:1: error: unknown host or group `xen0l`");
        check("kvm01.x, kvn", "--limit:1:10: error: unknown host or group `kvn`");
        check("z*", "--limit:1:1: error: `z*` matches no host and no group");
        check("kvm[04-01].x", "--limit:1:5: error: the range `04-01` runs backward");
        check("", "--limit:1:1: error: a name or pattern is missing");
        check("kvm,", "--limit:1:5: error: a name or pattern is missing");
        check("!", "--limit:1:2: error: a name or pattern is missing");
    }
}
