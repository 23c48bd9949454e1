//! Stage 4: the declarations of one host to its catalog of typed resources.
//!
//! Declarations are given their kinds' types, contradictions are found or overridden, and resources that share a file
//! become one, so that it is edited once, written once and regenerated once.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{
    address::Address,
    config::{
        Node, Taint, Value,
        declared::{Declared, Level},
    },
    diag::{Diagnostic, Diagnostics, SourceId, Span},
    resource::{AnyResource, Handle, KINDS, Kind},
};

/// All resources of one host, in the order of their addresses.
#[derive(Debug, Default)]
pub struct Catalog {
    /// The resources.
    pub entries: Vec<Entry>,
}

/// A resource with what was said beside it.
#[derive(Debug)]
pub struct Entry {
    /// What the resource is called.
    pub address: Address,
    /// The resource.
    pub resource: Box<dyn AnyResource>,
    /// Where it was declared; a merged resource has several places.
    pub places: Vec<Span>,
    /// The names by which others call it: labels, and the addresses of everything that was merged into it.
    pub names: BTreeSet<String>,
    /// What it requires.
    pub requires: Vec<(String, Span)>,
    /// What it notifies.
    pub notify: Vec<(String, Span)>,
    /// The parameters whose values were computed from facts.
    pub from_facts: BTreeSet<String>,
    /// A value in it came from a sensitive parameter.
    pub sensitive: bool,
    /// The weaker declarations that it overrides.
    pub overridden: BTreeSet<Overridden>,
    /// The things of the ledger that it takes back, because they are declared no more.
    pub restores: BTreeSet<String>,
}

impl Catalog {
    /// Adds a resource that takes back what is declared no more; one that shares a file with others becomes one with them. Of what it
    /// notified, that is refreshed which is declared still.
    pub fn restore(
        &mut self,
        address: Address,
        resource: Box<dyn AnyResource>,
        notifies: &BTreeSet<String>,
        sensitive: bool,
    ) {
        let restores = BTreeSet::from([address.name.clone()]);
        let is_there = |name: &&String| self.entries.iter().any(|entry| entry.names.contains(*name));
        // Nobody wrote it, so there is no place to name.
        let nowhere = Span::new(SourceId::default(), 0..0);
        let notify: Vec<(String, Span)> =
            notifies.iter().filter(is_there).map(|name| (name.clone(), nowhere)).collect();
        let shared = resource.merge_key().and_then(|key| {
            let same = |entry: &Entry| {
                entry.address.kind == resource.address().kind && entry.resource.merge_key().as_ref() == Some(&key)
            };
            self.entries.iter().position(same)
        });
        if let Some(at) = shared {
            let into = &mut self.entries[at];
            into.resource.absorb(resource);
            into.restores.extend(restores);
            into.notify.extend(notify);
            into.sensitive |= sensitive;
            return;
        }
        let names = BTreeSet::from([address.to_string()]);
        let entry = Entry {
            address,
            resource,
            places: vec![],
            names,
            requires: vec![],
            notify,
            from_facts: BTreeSet::new(),
            sensitive,
            overridden: BTreeSet::new(),
            restores,
        };
        let at = self.entries.partition_point(|other| other.address < entry.address);
        self.entries.insert(at, entry);
    }
}

/// A declaration that lost against a stronger one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Overridden {
    /// What was decided otherwise: a path, a key, a parameter.
    pub what: String,
    /// The level that won.
    pub by: String,
    /// The level that lost.
    pub over: String,
}

/// A declaration that has its type, on the way into the catalog.
struct Typed {
    entry: Entry,
    level: Level,
    overrides: bool,
    alive: bool,
}

/// Builds the catalog of one host.
///
/// # Errors
/// Everything that is wrong with parameters, contradictions between declarations, and two sources for one thing.
pub fn build(declared: Vec<Declared>) -> Result<Catalog, Diagnostics> {
    let mut diagnostics = Diagnostics::new();
    let mut typed: Vec<Typed> = declared.into_iter().filter_map(|one| type_of(one, &mut diagnostics)).collect();
    // The order of files and entries changes nothing.
    typed.sort_by(|a, b| (&a.entry.address, &a.entry.places).cmp(&(&b.entry.address, &b.entry.places)));
    settle_claims(&mut typed, &mut diagnostics);
    let mut entries = merge(typed);
    entries.sort_by(|a, b| a.address.cmp(&b.address));
    check_sources(&entries, &mut diagnostics);
    if diagnostics.has_errors() { Err(diagnostics) } else { Ok(Catalog { entries }) }
}

fn type_of(declared: Declared, diagnostics: &mut Diagnostics) -> Option<Typed> {
    let Some(kind) = Kind::find(&declared.kind) else {
        let unknown = Diagnostic::error(format!("there is no kind `{}`", declared.kind)).at(declared.kind_span);
        diagnostics.push(unknown.suggest(&declared.kind, KINDS.iter().map(|kind| kind.name)));
        return None;
    };
    if let Some(mut found) = misplaced_secrets(kind, &declared.params) {
        if declared.place != declared.kind_span {
            found.stand_at(declared.place);
        }
        diagnostics.append(found);
        return None;
    }
    let resource = match (kind.parse)(&declared.params).map_err(|found| without_secrets(found, &declared.params)) {
        Ok(resource) => resource,
        Err(mut found) => {
            if declared.place != declared.kind_span {
                found.stand_at(declared.place);
            }
            diagnostics.append(found);
            return None;
        }
    };
    let tainted = |pick: fn(Taint) -> bool| -> BTreeSet<String> {
        let map = declared.params.as_map().into_iter().flat_map(|map| map.iter());
        map.filter(|(_, value)| pick(value.deep_taint())).map(|(key, _)| key.text.to_string()).collect()
    };
    let from_facts = tainted(|taint| taint.facts);
    let sensitive = declared.sensitive || !tainted(|taint| taint.sensitive).is_empty();
    let address = resource.address();
    let entry = Entry {
        names: declared.labels.into_iter().chain([address.to_string()]).collect(),
        address,
        resource,
        places: vec![declared.place],
        requires: declared.requires,
        notify: declared.notify,
        from_facts,
        sensitive,
        overridden: BTreeSet::new(),
        restores: BTreeSet::new(),
    };
    Some(Typed { entry, level: declared.level, overrides: declared.overrides, alive: true })
}

/// Finds parameters that were computed from a secret and must not be: they stand in names, messages or command lines.
fn misplaced_secrets(kind: &Kind, params: &Node) -> Option<Diagnostics> {
    let mut found = Diagnostics::new();
    for (key, node) in params.as_map().into_iter().flatten() {
        if node.deep_taint().sensitive && !kind.secrets.contains(&key.text.as_str()) {
            let words = format!(
                "`{key}` of `{}` cannot be made of a secret: it stands in names, messages or command lines",
                kind.name
            );
            found.push(Diagnostic::error(words).at(node.span).help(places_of_secrets()));
        }
    }
    found.has_errors().then_some(found)
}

/// Says which parameters may hold a secret.
fn places_of_secrets() -> String {
    let places = KINDS.iter().filter(|kind| !kind.secrets.is_empty());
    let places = places.map(|kind| format!("`{}` of `{}`", kind.secrets.join("` and `"), kind.name));
    format!("a secret may stand in {}", places.collect::<Vec<_>>().join(", "))
}

/// Takes the words out of messages that are about a value computed from a secret, or that hold one.
fn without_secrets(found: Diagnostics, params: &Node) -> Diagnostics {
    let mut secrets: Vec<(Span, String)> = vec![];
    collect_secrets(params, &mut secrets);
    let is_about = |diagnostic: &Diagnostic| {
        secrets.iter().any(|(span, text)| {
            let says = |words: &String| !text.is_empty() && words.contains(text.as_str());
            diagnostic.span() == Some(*span) || says(&diagnostic.summary) || diagnostic.help.iter().any(says)
        })
    };
    let hide = |diagnostic: Diagnostic| {
        if !is_about(&diagnostic) {
            return diagnostic;
        }
        let summary = "a value is not one that the kind takes (not shown, as it is made of a secret)".to_owned();
        Diagnostic { summary, help: vec![], ..diagnostic }
    };
    found.into_iter().map(hide).collect()
}

fn collect_secrets(node: &Node, found: &mut Vec<(Span, String)>) {
    if node.taint.sensitive {
        found.push((node.span, node.scalar_text().unwrap_or_default().into_owned()));
    }
    match &node.value {
        Value::Seq(list) => list.iter().for_each(|node| collect_secrets(node, found)),
        Value::Map(map) => {
            for (key, value) in map {
                if node.taint.sensitive {
                    found.push((key.span, key.text.clone()));
                }
                collect_secrets(value, found);
            }
        }
        _ => {}
    }
}

/// Finds what two resources say about one thing: the same is said once, a contradiction is overridden by the stronger
/// level if it says `override: true`, and is an error otherwise.
fn settle_claims(typed: &mut [Typed], diagnostics: &mut Diagnostics) {
    let mut claims: BTreeMap<(String, String), Vec<(usize, String)>> = BTreeMap::new();
    for (at, one) in typed.iter().enumerate() {
        for claim in one.entry.resource.claims() {
            claims.entry((one.entry.address.kind.clone(), claim.key)).or_default().push((at, claim.value));
        }
    }
    for ((kind, key), mut claimants) in claims {
        claimants.sort_by_key(|(at, _)| std::cmp::Reverse((typed[*at].level, typed[*at].overrides)));
        let Some(((winner, value), others)) = claimants.split_first() else { continue };
        for (loser, other) in others {
            let (strong, weak) = (&typed[*winner], &typed[*loser]);
            let same = other == value;
            let overrides = strong.overrides && strong.level > weak.level;
            if !same && !overrides {
                diagnostics.push(contradiction(&kind, &key, strong, weak));
                continue;
            }
            let (by, over) = (strong.level.word().to_string(), weak.level.word().to_string());
            let weak = &mut typed[*loser];
            let beaten = weak.alive && !weak.entry.resource.release(&key);
            weak.alive &= !beaten;
            let names = std::mem::take(&mut weak.entry.names);
            let rest = beaten.then(|| {
                let entry = &mut weak.entry;
                (std::mem::take(&mut entry.requires), std::mem::take(&mut entry.notify), entry.places.clone())
            });
            if !beaten {
                weak.entry.names = names.clone();
            }
            let strong = &mut typed[*winner].entry;
            if let Some((requires, notify, places)) = rest {
                // Whoever calls the one that is gone by its name means the one that stands in its place.
                strong.names.extend(names);
                strong.requires.extend(requires);
                strong.notify.extend(notify);
                if same {
                    strong.places.extend(places);
                }
            }
            if !same {
                strong.overridden.insert(Overridden { what: key.clone(), by, over });
            }
        }
    }
}

fn contradiction(kind: &str, key: &str, strong: &Typed, weak: &Typed) -> Diagnostic {
    let mut diagnostic = Diagnostic::error(format!("`{kind}` is declared twice for `{key}`, with different values"));
    for (one, text) in [(strong, "declared here"), (weak, "and here, with another value")] {
        for place in &one.entry.places {
            diagnostic = diagnostic.label(*place, text);
        }
    }
    if strong.level > weak.level {
        let (strong, weak) = (strong.level.word(), weak.level.word());
        diagnostic.help(format!("say `override: true` beside the {strong}'s entry, so that it wins over the {weak}'s"))
    } else {
        diagnostic.help("declare it once, or at a stronger level (host over group over playbook) with `override: true`")
    }
}

/// Makes one resource of all that share a file.
fn merge(typed: Vec<Typed>) -> Vec<Entry> {
    let mut merged: Vec<Entry> = vec![];
    let mut by_key: BTreeMap<(String, String), usize> = BTreeMap::new();
    for entry in typed.into_iter().filter(|one| one.alive).map(|one| one.entry) {
        let Some(key) = entry.resource.merge_key() else {
            merged.push(entry);
            continue;
        };
        let key = (entry.address.kind.clone(), key);
        let Some(&into) = by_key.get(&key) else {
            by_key.insert(key, merged.len());
            merged.push(entry);
            continue;
        };
        let into = &mut merged[into];
        into.resource.absorb(entry.resource);
        into.address = into.resource.address();
        into.names.extend(entry.names);
        into.names.insert(into.address.to_string());
        into.places.extend(entry.places);
        into.requires.extend(entry.requires);
        into.notify.extend(entry.notify);
        into.from_facts.extend(entry.from_facts);
        into.sensitive |= entry.sensitive;
        into.overridden.extend(entry.overridden);
    }
    merged
}

/// Finds two resources that provide one thing: then no guard of either could hold.
fn check_sources(entries: &[Entry], diagnostics: &mut Diagnostics) {
    let mut sources: BTreeMap<Handle, &Entry> = BTreeMap::new();
    for entry in entries {
        for handle in entry.resource.links().provides {
            let Some(first) = sources.insert(handle.clone(), entry) else { continue };
            // The same resource declared twice was told as a contradiction.
            if first.address == entry.address {
                continue;
            }
            let what = match handle {
                Handle::Path(path) => path.to_string(),
                Handle::Unit(unit) => format!("unit {unit}"),
                Handle::Mount(path) => format!("the mount on {path}"),
            };
            let summary = format!("two resources provide {what}: `{}` and `{}`", first.address, entry.address);
            let places = first.places.iter().chain(&entry.places);
            let diagnostic = places.fold(Diagnostic::error(summary), |diagnostic, place| diagnostic.at(*place));
            diagnostics.push(diagnostic.help("let one of them have it"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::declared::entries, diag::SourceMap};

    /// Checks the addresses of a catalog, each with what it overrides; or what is wrong, with all places.
    fn check(text: &str, expected: &[&str]) {
        let sources = SourceMap::new();
        let found: Vec<String> = match build(entries(text, &sources)) {
            Ok(catalog) => catalog
                .entries
                .iter()
                .map(|entry| {
                    let beaten = entry.overridden.iter().map(|one| format!(" {} {}>{}", one.what, one.by, one.over));
                    format!("{}{}", entry.address, beaten.collect::<String>())
                })
                .collect(),
            Err(errors) => errors
                .iter()
                .map(|error| {
                    let places = error.labels.iter().map(|label| sources.place(label.span).replace("t.yaml:", ""));
                    format!("{}: {}", places.collect::<Vec<_>>().join(" "), error.summary)
                })
                .collect(),
        };
        assert_eq!(found, expected, "{text}");
    }

    const SWAPPINESS: &str = "- sysctl: {name: vm.swappiness, value: 35}\n  level: playbook\n";

    #[test]
    fn what_is_said_twice_is_one_or_a_contradiction() {
        let again = "- sysctl: {name: vm.swappiness, value: 35}\n";
        check(&format!("{SWAPPINESS}{again}"), &["sysctl[vm.swappiness]"]);
        let other = "- sysctl: {name: vm.swappiness, value: 60}\n";
        let contradiction = "`sysctl` is declared twice for `vm.swappiness`, with different values";
        check(&format!("{SWAPPINESS}{other}"), &[&format!("3:3 1:3: {contradiction}")]);
        let stronger = "- sysctl: {name: vm.swappiness, value: 60}\n  override: true\n";
        check(&format!("{SWAPPINESS}{stronger}"), &["sysctl[vm.swappiness] vm.swappiness host>playbook"]);
        check(&format!("{stronger}{SWAPPINESS}"), &["sysctl[vm.swappiness] vm.swappiness host>playbook"]);
        let level = stronger.to_owned() + "  level: playbook\n";
        check(&format!("{SWAPPINESS}{level}"), &[&format!("3:3 1:3: {contradiction}")]);
        let coupled = "- sysctl: {name: vm.dirty_bytes, value: 8192}\n- sysctl: {name: vm.dirty_ratio, value: 5}\n";
        let words = "`sysctl` is declared twice for `vm.dirty_bytes or vm.dirty_ratio`, with different values";
        check(coupled, &[&format!("1:3 2:3: {words}")]);
    }

    #[test]
    fn resources_of_one_file_are_one() {
        let sources = SourceMap::new();
        let text = "- sysctl: {name: vm.swappiness, value: 35}\n  name: swap\n  notify: [x]\n\
                    - sysctl: {name: fs.aio-max-nr, value: 1048576}\n";
        let catalog = build(entries(text, &sources)).unwrap();
        assert_eq!(catalog.entries.len(), 1);
        let entry = &catalog.entries[0];
        assert_eq!(entry.address.to_string(), "sysctl[/etc/sysctl.d/90-vprov.conf]");
        for name in ["swap", "sysctl[vm.swappiness]", "sysctl[fs.aio-max-nr]", "sysctl[/etc/sysctl.d/90-vprov.conf]"] {
            assert!(entry.names.contains(name), "{name}: {:?}", entry.names);
        }
        assert_eq!((entry.places.len(), entry.notify.len()), (2, 1));
        // Of a merged one only the claim that was overridden is given up.
        check(
            "- kernel_cmdline: {parameters: [quiet, a=1]}\n  level: playbook\n\
             - kernel_cmdline: {parameters: [a=2]}\n  override: true\n",
            &["kernel_cmdline[boot] linux:a host>playbook"],
        );
    }

    /// A canary in each parameter of each kind: where it may be a secret, no name and no claim holds it; elsewhere it is refused.
    #[test]
    fn a_secret_stands_in_no_name_of_any_kind() {
        const CANARY: &str = "canary7f3a";
        let sources = SourceMap::new();
        let mut taken = vec![];
        for kind in KINDS {
            let list = entries(&format!("- {}", kind.example.trim_end().replace('\n', "\n  ")), &sources);
            let Value::Map(map) = &list[0].params.value else { panic!("{}", kind.name) };
            let names = map.iter().map(|(key, _)| key.text.clone()).chain(kind.secrets.iter().map(ToString::to_string));
            for name in names {
                let mut declared = list[0].clone();
                let Value::Map(map) = &mut declared.params.value else { panic!("{}", kind.name) };
                let mut secret = Node::new(Value::Str(CANARY.into()), declared.kind_span);
                secret.mark(Taint { facts: false, sensitive: true });
                map.0.retain(|(key, _)| key.text != name);
                map.0.push((crate::config::Key { text: name.clone(), span: declared.kind_span }, secret));
                let address = format!("{}.{name}", kind.name);
                match build(vec![declared]) {
                    Ok(catalog) => {
                        assert!(kind.secrets.contains(&name.as_str()), "{address}");
                        let entry = &catalog.entries[0];
                        assert!(entry.sensitive, "{address}");
                        let keys: Vec<String> = entry.resource.claims().into_iter().map(|claim| claim.key).collect();
                        let shown =
                            format!("{} {:?} {keys:?} {:?}", entry.address, entry.names, entry.resource.links());
                        assert!(!shown.contains(CANARY), "{address}: {shown}");
                        taken.push(address);
                    }
                    Err(errors) => {
                        let shown: String = errors.iter().map(|error| error.render(&sources, false)).collect();
                        assert!(!shown.contains(CANARY), "{address}: {shown}");
                    }
                }
            }
        }
        for address in ["command.stdin", "file.content", "setting.value", "kernel_value.value"] {
            assert!(taken.iter().any(|one| one == address), "{address}: {taken:?}");
        }
    }

    #[test]
    fn one_thing_has_one_source() {
        check(
            "- file: {path: /etc/a, content: x}\n- symlink: {path: /etc/a, target: b}\n",
            &["1:3 2:3: two resources provide /etc/a: `file[/etc/a]` and `symlink[/etc/a]`"],
        );
        let sources = SourceMap::new();
        let errors = build(entries("- fiel: {path: /etc/a}\n", &sources)).unwrap_err();
        let shown = errors.iter().map(|error| error.render(&sources, false)).collect::<String>();
        assert!(shown.contains("there is no kind `fiel`") && shown.contains("`file`"), "{shown}");
    }
}
