//! GRUB whose generator reads drop-ins (Debian, Ubuntu): vprov's parameters are in a file of its own.
//!
//! The drop-in appends to the `_DEFAULT` variable, so that the recovery entries stay without tuning. Values that somebody else
//! gave to the same parameters are taken out of their own files, because of several parameters the first one wins.

use super::{
    cmdline::{CommandLine, Request, Target},
    driver::{
        self, BootEdit, Chain, Evidence, FileEdit, GRUB_D, Refusal, Text, Wanted, changed, evaluate, generator,
        predicates, remove, sources, verify,
    },
    shell::{Dialect, Source, Variables},
};
use crate::host::{bytes::Bytes, path::AbsPath};

/// The name of vprov's drop-in; most others sort before it.
pub const DROP_IN: &str = "99-vprov.cfg";

const HEADER: &str = "# Written by vprov: changes are lost. Read by grub-mkconfig after /etc/default/grub.\n";

/// The variables that the drop-in may append to, in the order in which it does.
const OWN: [(Target, &str); 3] = [
    (Target::Linux, "GRUB_CMDLINE_LINUX_DEFAULT"),
    (Target::Linux, "GRUB_CMDLINE_LINUX_XEN_REPLACE_DEFAULT"),
    (Target::Xen, "GRUB_CMDLINE_XEN_DEFAULT"),
];

/// Plans the drop-in and the removal of foreign values.
pub(super) fn plan(evidence: &Evidence, wanted: &Wanted) -> Result<BootEdit, Refusal> {
    let dialect = Dialect::Posix;
    let own = AbsPath::known(&format!("{GRUB_D}/{DROP_IN}"));
    let old = evidence.grub_d.iter().find(|(name, _)| name == DROP_IN).map(|(_, bytes)| bytes.clone());
    let all = sources(evidence, None).unwrap_or_default();
    let before = driver::lines(&evaluate(&all, dialect))?;
    let mut files = sources(evidence, Some(DROP_IN)).unwrap_or_default();
    let mut notes = Vec::new();
    let mut appended: Vec<(&str, Vec<String>)> = Vec::new();
    for target in [Target::Linux, Target::Xen] {
        match wanted.of(target) {
            Some(request) => appended.extend(append(&mut files, target, request, dialect, &mut notes)?),
            None => appended.extend(kept(&own, old.as_ref(), target, dialect)?),
        }
    }
    let text = content(&appended);
    let place = files.iter().position(|file| file.path.as_str() > own.as_str() && file.path.parent() == own.parent());
    let drop_in = Text { path: own.clone(), before: old.clone(), text: text.clone().unwrap_or_default().into_bytes() };
    files.insert(place.unwrap_or(files.len()), drop_in);
    let after = verify(&files, dialect, wanted, Some(&own))?;
    let predicates = predicates(&files, dialect, &after, wanted);
    files.retain(|file| file.path != own);
    let mut edits = changed(files);
    let new = text.map(Bytes::from);
    if new != old {
        edits.push(FileEdit { path: own, before: old, after: new });
    }
    Ok(BootEdit {
        files: edits,
        before,
        after,
        notes,
        generator: generator(evidence, "/boot/grub/grub.cfg"),
        predicates,
    })
}

/// Takes foreign values of the request's parameters away, and returns what the drop-in appends to which variable.
fn append(
    files: &mut [Text],
    target: Target,
    request: &Request,
    dialect: Dialect,
    notes: &mut Vec<String>,
) -> Result<Vec<(&'static str, Vec<String>)>, Refusal> {
    let variables = evaluate(files, dialect);
    let chains = Chain::of(target, &variables)?;
    let mut groups = Vec::new();
    for chain in &chains {
        let line = CommandLine::parse(&chain.line(&variables)?);
        let wanting = request.differences(&line).into_iter().map(|difference| difference.group);
        groups.extend(wanting.filter(|group| !request.group(group).is_empty()));
    }
    let gone = request.without(&groups);
    let mut names: Vec<_> = chains.iter().flat_map(|chain| [chain.first, chain.last]).collect();
    names.sort_unstable();
    names.dedup();
    for name in names {
        remove(files, name, &gone, dialect, notes);
    }
    let missing = request.only(|group| groups.contains(group));
    let tokens: Vec<_> = missing.parameters().iter().map(|token| token.text.clone()).collect();
    let mut appended: Vec<(&'static str, Vec<String>)> = Vec::new();
    // A replacement that lost its last word replaces no more.
    for chain in Chain::of(target, &evaluate(files, dialect))? {
        if !tokens.is_empty() && appended.iter().all(|(name, _)| *name != chain.last) {
            appended.push((chain.last, tokens.clone()));
        }
    }
    Ok(appended)
}

/// Returns what the drop-in that is there appends for a target that is not asked for.
fn kept(
    path: &AbsPath,
    old: Option<&Bytes>,
    target: Target,
    dialect: Dialect,
) -> Result<Vec<(&'static str, Vec<String>)>, Refusal> {
    let Some(old) = old else { return Ok(Vec::new()) };
    let variables = Variables::evaluate(&[Source { path, text: &old.0 }], dialect);
    let mut appended = Vec::new();
    for (_, name) in OWN.iter().filter(|(of, _)| *of == target) {
        let line = CommandLine::parse(variables.get(name)?.unwrap_or(""));
        let tokens: Vec<_> = line.tokens().map(|token| token.text.clone()).collect();
        if !tokens.is_empty() {
            appended.push((*name, tokens));
        }
    }
    Ok(appended)
}

/// Writes the drop-in; `None` if there is nothing to append.
fn content(appended: &[(&str, Vec<String>)]) -> Option<String> {
    let mut text = String::new();
    for (_, name) in OWN {
        let tokens: Vec<_> = appended
            .iter()
            .filter(|(of, _)| *of == name)
            .flat_map(|(_, tokens)| tokens.iter())
            .map(String::as_str)
            .collect();
        if !tokens.is_empty() {
            text.push_str(&format!("{name}=\"${name} {}\"\n", tokens.join(" ")));
        }
    }
    (!text.is_empty()).then(|| format!("{HEADER}{text}"))
}
