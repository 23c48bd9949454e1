//! GRUB of SUSE (SLES 12 and 15, Leap): one file, `/etc/default/grub`, whose last literal assignment is edited in place.

use super::{
    cmdline::{CommandLine, Request, Target, edit},
    driver::{
        self, BootEdit, Chain, DEFAULT_GRUB, Evidence, GRUB_D, Refusal, Text, Wanted, changed, evaluate, generator,
        predicates, remove, sources, verify,
    },
    shell::{Dialect, assign},
};
use crate::host::path::AbsPath;

/// Plans the edit of the file.
pub(super) fn plan(evidence: &Evidence, wanted: &Wanted) -> Result<BootEdit, Refusal> {
    let dialect = Dialect::Bash;
    let mut files = sources(evidence, None).unwrap_or_default();
    if files.is_empty() {
        files.push(Text { path: AbsPath::known(DEFAULT_GRUB), before: None, text: Vec::new() });
    }
    let before = driver::lines(&evaluate(&files, dialect))?;
    let mut notes = Vec::new();
    if !evidence.grub_d.is_empty() {
        notes.push(format!("{GRUB_D} has files, but the generator of this host does not read them"));
    }
    for target in [Target::Linux, Target::Xen] {
        if let Some(request) = wanted.of(target) {
            change(&mut files, target, request, dialect, &mut notes)?;
        }
    }
    let after = verify(&files, dialect, wanted, None)?;
    let predicates = predicates(&files, dialect, &after, wanted);
    // An empty file that was not there stays away.
    files.retain(|file| file.before.is_some() || !file.text.is_empty());
    Ok(BootEdit {
        files: changed(files),
        before,
        after,
        notes,
        generator: generator(evidence, "/boot/grub2/grub.cfg"),
        predicates,
    })
}

fn change(
    files: &mut [Text],
    target: Target,
    request: &Request,
    dialect: Dialect,
    notes: &mut Vec<String>,
) -> Result<(), Refusal> {
    let variables = evaluate(files, dialect);
    let chains = Chain::of(target, &variables)?;
    let mut groups = Vec::new();
    for chain in &chains {
        let line = CommandLine::parse(&chain.line(&variables)?);
        groups.extend(request.differences(&line).into_iter().map(|difference| difference.group));
    }
    if groups.is_empty() {
        return Ok(());
    }
    let missing = request.only(|group| groups.contains(group));
    let gone = request.without(&missing.groups());
    let (mut firsts, mut lasts): (Vec<_>, Vec<_>) = chains.iter().map(|chain| (chain.first, chain.last)).unzip();
    firsts.dedup();
    lasts.dedup();
    for name in firsts {
        remove(files, name, &gone, dialect, notes);
    }
    for name in lasts {
        let old = variables.get(name)?.unwrap_or("");
        let new = edit(old, &missing);
        if new != old {
            let file = &mut files[0];
            file.text = assign(&file.path, &file.text, name, &new, dialect)?;
        }
    }
    Ok(())
}
