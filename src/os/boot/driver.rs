//! Which boot loader serves a host, and what has to be written and run so that its next boot has the wanted command lines.
//!
//! Files of several boot loaders coexist on real hosts, so the answer comes from all the [`Evidence`] together and never from
//! the distribution's name alone. Two drivers write: GRUB with drop-ins (`debian.rs`) and GRUB with one file
//! (`suse.rs`); every other loader is recognised and refused by name.

use std::{collections::BTreeSet, fmt};

use super::{
    cmdline::{CommandLine, Difference, Request, Target},
    debian,
    grub_cfg::{EntryDifference, GrubCfg},
    shell::{AssignError, Dialect, NotStatic, Source, Variables},
    suse,
};
use crate::host::{bytes::Bytes, path::AbsPath};

/// The file that GRUB's generator reads first.
pub const DEFAULT_GRUB: &str = "/etc/default/grub";
/// The directory of drop-ins that Debian's generator reads after it, as `*.cfg` in the order of their names.
pub const GRUB_D: &str = "/etc/default/grub.d";

/// What was read from a host; a file that is not there is `None`.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Evidence {
    /// `ID` of /etc/os-release.
    pub os_id: String,
    /// The words of `ID_LIKE`.
    pub os_like: Vec<String>,
    /// The machine of uname(2).
    pub arch: String,
    /// /etc/default/grub.
    pub default_grub: Option<Bytes>,
    /// Names and contents of /etc/default/grub.d/*.cfg.
    pub grub_d: Vec<(String, Bytes)>,
    /// The first of /usr/sbin/grub2-mkconfig and /usr/sbin/grub-mkconfig, with its text.
    pub mkconfig: Option<(AbsPath, Bytes)>,
    /// Those of /boot/grub/grub.cfg and /boot/grub2/grub.cfg that exist, links resolved to one of them.
    pub grub_cfg: Vec<AbsPath>,
    /// /boot/grub/menu.lst exists.
    pub menu_lst: bool,
    /// `LOADER_TYPE` of /etc/sysconfig/bootloader.
    pub loader_type: Option<String>,
    /// /boot/loader/entries has a `*.conf`.
    pub bls_entries: bool,
    /// /etc/kernel/cmdline exists.
    pub kernel_cmdline: bool,
    /// The EFI variable LoaderInfo, such as `systemd-boot 252` or `GRUB 2.12`: who booted this system.
    pub loader_info: Option<String>,
    /// systemd-boot is installed on the EFI partition (`bootctl is-installed`).
    pub systemd_boot: bool,
    /// /run/ostree-booted exists.
    pub ostree: bool,
    /// `/` or /usr is read-only and transactional-update is installed.
    pub transactional: bool,
}

impl Evidence {
    /// Tells whether the generator reads drop-ins: only Debian's and Ubuntu's does, and its text says so.
    #[must_use]
    pub fn has_drop_ins(&self) -> bool {
        let needle = b"default/grub.d";
        self.mkconfig.as_ref().is_some_and(|(_, text)| text.0.windows(needle.len()).any(|window| window == needle))
    }

    /// Tells whether an `ID` or `ID_LIKE` of the distribution is one of these, or begins with it.
    fn is_like(&self, names: &[&str]) -> bool {
        let ids = std::iter::once(&self.os_id).chain(&self.os_like);
        ids.into_iter().any(|id| names.iter().any(|name| id == name || id.starts_with(&format!("{name}-"))))
    }
}

/// A boot loader with what has to be changed for its command lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BootLoader {
    /// GRUB whose generator reads /etc/default/grub.d (Debian, Ubuntu).
    GrubD,
    /// GRUB of SUSE: /etc/default/grub and grub2-mkconfig.
    SuseGrub2,
    /// GRUB elsewhere, with /etc/default/grub alone.
    GrubOther,
    /// GRUB with entries of the Boot Loader Specification (RHEL, Fedora).
    RhelBls,
    /// SUSE with entries of the Boot Loader Specification (grub2-bls or systemd-boot with sdbootutil).
    SuseBls,
    /// SUSE with GRUB on a read-only root.
    SuseTransactional,
    /// systemd-boot with kernel-install.
    SystemdBoot,
    /// ostree or bootc.
    Ostree,
    /// GRUB legacy (SLE 11).
    GrubLegacy,
    /// zipl (s390x).
    Zipl,
    /// GRUB and systemd-boot are both installed, and nothing tells which one boots.
    Ambiguous,
    /// None that is known.
    None,
}

impl BootLoader {
    /// Decides which boot loader serves the host.
    #[must_use]
    pub fn detect(evidence: &Evidence) -> Self {
        let suse = evidence.is_like(&["suse", "opensuse", "sles", "sled", "sle"]);
        let booted_by = |name: &str| evidence.loader_info.as_deref().is_some_and(|info| info.starts_with(name));
        if evidence.arch == "s390x" {
            return Self::Zipl;
        }
        if evidence.ostree {
            return Self::Ostree;
        }
        match evidence.loader_type.as_deref() {
            Some("grub2-bls" | "systemd-boot") => return Self::SuseBls,
            Some("grub") if evidence.mkconfig.is_none() => return Self::GrubLegacy,
            _ => {}
        }
        let systemd_boot = if suse { Self::SuseBls } else { Self::SystemdBoot };
        if booted_by("systemd-boot") {
            return systemd_boot;
        }
        if evidence.mkconfig.is_none() {
            return match () {
                () if evidence.menu_lst => Self::GrubLegacy,
                () if evidence.systemd_boot => systemd_boot,
                () => Self::None,
            };
        }
        // A generator alone boots nothing: the package is installed in many containers.
        if evidence.grub_cfg.is_empty() {
            return if evidence.systemd_boot { systemd_boot } else { Self::None };
        }
        if evidence.systemd_boot
            && !booted_by("GRUB")
            && !matches!(evidence.loader_type.as_deref(), Some("grub2" | "grub2-efi"))
        {
            return Self::Ambiguous;
        }
        if evidence.has_drop_ins() {
            return Self::GrubD;
        }
        if suse {
            return if evidence.transactional { Self::SuseTransactional } else { Self::SuseGrub2 };
        }
        let enabled = sources(evidence, None).and_then(|files| {
            evaluate(&files, Dialect::Bash).get("GRUB_ENABLE_BLSCFG").ok().flatten().map(str::to_owned)
        });
        match enabled.as_deref() {
            Some("true") => Self::RhelBls,
            // Unset counts as set where the entries are (rhboot 10_linux).
            None if evidence.bls_entries => Self::RhelBls,
            _ => Self::GrubOther,
        }
    }

    /// Returns the name by which facts know the loader.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::GrubD => "grub-d",
            Self::SuseGrub2 => "suse-grub2",
            Self::GrubOther => "grub",
            Self::RhelBls => "rhel-bls",
            Self::SuseBls => "suse-bls",
            Self::SuseTransactional => "suse-transactional",
            Self::SystemdBoot => "systemd-boot",
            Self::Ostree => "ostree",
            Self::GrubLegacy => "grub-legacy",
            Self::Zipl => "zipl",
            Self::Ambiguous => "ambiguous",
            Self::None => "none",
        }
    }

    /// Returns why vprov does not change this loader's command lines, and what a person can do; `None` if it does.
    #[must_use]
    pub fn unsupported(self) -> Option<&'static str> {
        Some(match self {
            Self::GrubD | Self::SuseGrub2 => return None,
            Self::GrubOther => {
                "this host's GRUB is generated from /etc/default/grub alone and is none of SUSE; edit that file and run grub-mkconfig"
            }
            Self::RhelBls => {
                "the kernels have entries in /boot/loader/entries; use `grubby --update-kernel=ALL --args=…`, with a whole \
                 huge-page block in one `--args`"
            }
            Self::SuseBls => {
                "the command line is in /etc/kernel/cmdline; edit it and run `sdbootutil update-all-entries`"
            }
            Self::SuseTransactional => {
                "the root is read-only; edit /etc/default/grub and run `transactional-update -n grub.cfg`, then reboot"
            }
            Self::SystemdBoot => {
                "systemd-boot boots this host; edit /etc/kernel/cmdline and run `kernel-install add` for each kernel"
            }
            Self::Ostree => "the host is deployed by ostree; use `rpm-ostree kargs --append=… --delete=…`",
            Self::GrubLegacy => {
                "GRUB legacy (SLE 11): add the parameters to the `kernel` lines of /boot/grub/menu.lst by hand; vprov only reads it"
            }
            Self::Zipl => "zipl boots this host (s390x); edit /etc/zipl.conf or /etc/default/grub and run zipl",
            Self::Ambiguous => {
                "GRUB and systemd-boot are both installed, and the firmware does not tell which one booted this host; remove the other"
            }
            Self::None => "no boot loader that vprov knows is installed here",
        })
    }
}

impl fmt::Display for BootLoader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::GrubD => "grub with drop-ins",
            Self::SuseGrub2 => "grub2 of SUSE",
            Self::GrubOther => "grub",
            Self::RhelBls => "grub with BLS entries",
            Self::SuseBls => "SUSE BLS",
            Self::SuseTransactional => "grub2 of SUSE on a read-only root",
            Self::SystemdBoot => "systemd-boot",
            Self::Ostree => "ostree",
            Self::GrubLegacy => "GRUB legacy",
            Self::Zipl => "zipl",
            Self::Ambiguous => "ambiguous",
            Self::None => "none",
        })
    }
}

/// What is wanted of both command lines. One plan serves both: they share files and the generated file.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Wanted {
    /// For the Linux kernel; `None` leaves what vprov wrote before as it is.
    pub linux: Option<Request>,
    /// For Xen; `None` leaves what vprov wrote before as it is.
    pub xen: Option<Request>,
}

impl Wanted {
    /// Returns the request for one target.
    #[must_use]
    pub fn of(&self, target: Target) -> Option<&Request> {
        match target {
            Target::Linux => self.linux.as_ref(),
            Target::Xen => self.xen.as_ref(),
        }
    }
}

/// A file with its text before and after; `None`: it is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileEdit {
    /// Where it is.
    pub path: AbsPath,
    /// What it holds now.
    pub before: Option<Bytes>,
    /// What it shall hold.
    pub after: Option<Bytes>,
}

/// The command lines that the files give, without what the boot loader adds itself.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Lines {
    /// Of Linux without Xen: `GRUB_CMDLINE_LINUX`, then `…_DEFAULT`, which therefore wins.
    pub linux: String,
    /// Of dom0's kernel, where `GRUB_CMDLINE_LINUX_XEN_REPLACE[_DEFAULT]` replaces them if it is not empty.
    pub dom0: String,
    /// Of the hypervisor: `GRUB_CMDLINE_XEN`, then `…_DEFAULT`.
    pub xen: String,
}

impl Lines {
    /// Returns the line of the Linux kernel without Xen, or that of Xen.
    #[must_use]
    pub fn of(&self, target: Target) -> &str {
        match target {
            Target::Linux => &self.linux,
            Target::Xen => &self.xen,
        }
    }
}

/// How the generated file is made, checked and installed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generator {
    /// The generated file that the boot loader reads.
    pub grub_cfg: AbsPath,
    /// The environment block beside it.
    pub grubenv: AbsPath,
    /// The generator; `{}` stands for the file that it writes.
    pub generate: Vec<String>,
    /// Ends with 0 if `{}` is a GRUB script.
    pub check: Vec<String>,
}

/// What the lines of a generated file must hold.
///
/// A line counts if it stands between `### BEGIN /etc/grub.d/X ###` and its `### END` for an X that contains `section`, its first
/// word is one of `first_words`, and it holds none of the words `except`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Predicate {
    /// Whose line it is.
    pub target: Target,
    /// Part of the name of the script that wrote the line.
    pub section: &'static str,
    /// First words of the lines that count.
    pub first_words: Vec<String>,
    /// Words that make a line not count.
    pub except: Vec<String>,
    /// Words that the line holds, in this order.
    pub tokens: Vec<String>,
    /// Every line that counts must hold the tokens; else one is enough, because those of recovery entries cannot be told apart.
    pub every: bool,
}

/// What has to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootEdit {
    /// The files that change; empty if they are as wanted.
    pub files: Vec<FileEdit>,
    /// The lines that the files give now.
    pub before: Lines,
    /// The lines that they will give.
    pub after: Lines,
    /// What else is changed or worth knowing, one sentence each without a final period.
    pub notes: Vec<String>,
    /// How to regenerate.
    pub generator: Generator,
    /// What must hold in the regenerated file, for the executor.
    pub predicates: Vec<Predicate>,
}

/// Why nothing can be written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no driver for the host's boot loader.
    #[error("boot loader: {loader}: {explanation}")]
    Unsupported {
        /// The boot loader.
        loader: BootLoader,
        /// Why, and what a person can do.
        explanation: &'static str,
    },
    /// A file cannot be evaluated without running it.
    #[error(transparent)]
    NotStatic(#[from] NotStatic),
    /// An assignment cannot be edited.
    #[error(transparent)]
    Assign(#[from] AssignError),
    /// A file that is read later replaces the value.
    #[error(
        "{path}:{line}: this assigns `{variable}` anew, later than {own}; append with `{variable}=\"${variable} …\"` there, or remove it"
    )]
    Overridden {
        /// The later file.
        path: AbsPath,
        /// The line in it, from 1.
        line: usize,
        /// The variable.
        variable: &'static str,
        /// The file that vprov writes.
        own: AbsPath,
    },
    /// A value of somebody else stands where it cannot be edited.
    #[error("`{variable}` would still give {difference}, and where that comes from it cannot be edited{place}")]
    Stuck {
        /// The variable.
        variable: &'static str,
        /// What would not be as wanted.
        difference: String,
        /// ` (file:line)` of the last assignment, or nothing.
        place: String,
    },
}

/// Plans the change of a host's command lines. Pure: what comes out depends on what goes in alone.
///
/// # Errors
/// The boot loader has no driver, or its files cannot be edited safely.
pub fn plan(evidence: &Evidence, wanted: &Wanted) -> Result<BootEdit, Refusal> {
    let loader = BootLoader::detect(evidence);
    match loader {
        BootLoader::GrubD => debian::plan(evidence, wanted),
        BootLoader::SuseGrub2 => suse::plan(evidence, wanted),
        loader => Err(Refusal::Unsupported { loader, explanation: loader.unsupported().unwrap_or("") }),
    }
}

/// Returns what the generated file lacks: of what is wanted, and of what the files give beyond that. Not empty: it has to be
/// generated again.
///
/// Words that the file has and the files do not give are not seen here; those that vprov wrote are absent in `wanted`
/// ([`Request::reverted`]).
#[must_use]
pub fn regeneration_due(menu: &GrubCfg, lines: &Lines, wanted: &Wanted) -> Vec<EntryDifference> {
    let mut due = Vec::new();
    for target in [Target::Linux, Target::Xen] {
        if let Some(request) = wanted.of(target) {
            due.extend(menu.differences(target, request));
        }
    }
    let titles: BTreeSet<_> = due.iter().map(|found| found.title.clone()).collect();
    for entry in menu.boot_entries() {
        if !entry.is_generated() || entry.is_recovery() || titles.contains(&entry.title) {
            continue;
        }
        let linux = if entry.is_xen() { &lines.dom0 } else { &lines.linux };
        for (target, by_files) in [(Target::Linux, linux), (Target::Xen, &lines.xen)] {
            let Some(loaded) = entry.loaded(target) else { continue };
            let found = CommandLine::parse(&loaded.line);
            let mut found = found.tokens().map(|token| token.canonical());
            let missing: Vec<_> = CommandLine::parse(by_files)
                .tokens()
                // GRUB's own variables are only known when it runs.
                .filter(|token| !token.text.contains(['$', '\\']))
                .filter(|token| !found.any(|other| other == token.canonical()))
                .map(|token| Difference { group: token.group(), wanted: vec![token.text.clone()], found: vec![] })
                .take(1)
                .collect();
            if !missing.is_empty() {
                due.push(EntryDifference { title: entry.title.clone(), target, differences: missing });
            }
        }
    }
    due
}

/// The pair of variables that make up one command line.
pub(super) struct Chain {
    /// For the normal and the recovery entries.
    pub(super) first: &'static str,
    /// For the normal entries alone, and last, so that it wins.
    pub(super) last: &'static str,
}

impl Chain {
    /// Returns the variables of Linux, of dom0 or of Xen's line, given what the files assign.
    pub(super) fn of(target: Target, variables: &Variables) -> Result<Vec<Self>, NotStatic> {
        let linux = Self { first: "GRUB_CMDLINE_LINUX", last: "GRUB_CMDLINE_LINUX_DEFAULT" };
        if target == Target::Xen {
            return Ok(vec![Self { first: "GRUB_CMDLINE_XEN", last: "GRUB_CMDLINE_XEN_DEFAULT" }]);
        }
        let or = |replacement: &'static str, name: &'static str| {
            Ok(if variables.get(replacement)?.is_some_and(|value| !value.is_empty()) { replacement } else { name })
        };
        let first = or("GRUB_CMDLINE_LINUX_XEN_REPLACE", linux.first)?;
        let last = or("GRUB_CMDLINE_LINUX_XEN_REPLACE_DEFAULT", linux.last)?;
        Ok(vec![linux, Self { first, last }])
    }

    /// Returns the line that the two variables give.
    pub(super) fn line(&self, variables: &Variables) -> Result<String, NotStatic> {
        let value = |name| variables.get(name).map(Option::unwrap_or_default);
        let (first, last) = (value(self.first)?, value(self.last)?);
        Ok(match (first.trim().is_empty(), last.trim().is_empty()) {
            (true, _) => last.trim().to_owned(),
            (_, true) => first.trim().to_owned(),
            _ => format!("{} {}", first.trim(), last.trim()),
        })
    }
}

/// Returns the lines that the files give.
pub(super) fn lines(variables: &Variables) -> Result<Lines, NotStatic> {
    let linux = Chain::of(Target::Linux, variables)?;
    let xen = Chain::of(Target::Xen, variables)?;
    Ok(Lines { linux: linux[0].line(variables)?, dom0: linux[1].line(variables)?, xen: xen[0].line(variables)? })
}

/// A file that the generator reads, while it is edited.
#[derive(Clone, Debug)]
pub(super) struct Text {
    pub(super) path: AbsPath,
    pub(super) before: Option<Bytes>,
    pub(super) text: Vec<u8>,
}

/// Returns the files in the order in which the generator reads them, without the drop-in `own`.
pub(super) fn sources(evidence: &Evidence, own: Option<&str>) -> Option<Vec<Text>> {
    let text = |path: String, bytes: &Bytes| {
        Some(Text { path: AbsPath::new(path).ok()?, before: Some(bytes.clone()), text: bytes.0.clone() })
    };
    let main = evidence.default_grub.as_ref().map(|bytes| text(DEFAULT_GRUB.into(), bytes));
    let mut drop_ins: Vec<_> = match evidence.has_drop_ins() {
        true => evidence.grub_d.iter().filter(|(name, _)| Some(name.as_str()) != own).collect(),
        false => Vec::new(),
    };
    drop_ins.sort();
    let drop_ins = drop_ins.into_iter().map(|(name, bytes)| text(format!("{GRUB_D}/{name}"), bytes));
    main.into_iter().chain(drop_ins).collect()
}

/// Evaluates files in their order.
pub(super) fn evaluate(files: &[Text], dialect: Dialect) -> Variables {
    let sources: Vec<_> = files.iter().map(|file| Source { path: &file.path, text: &file.text }).collect();
    Variables::evaluate(&sources, dialect)
}

/// Removes what a request wants gone from every literal that contributes to a variable; what cannot be edited stays.
pub(super) fn remove(files: &mut [Text], variable: &str, gone: &Request, dialect: Dialect, notes: &mut Vec<String>) {
    let variables = evaluate(files, dialect);
    let assignments: Vec<_> = variables.assignments(variable).collect();
    // What an assignment without the old value replaced does not contribute.
    let begin = assignments.iter().rposition(|assignment| !assignment.keeps).unwrap_or(0);
    for assignment in assignments[begin..].iter().rev() {
        let file = &mut files[assignment.source];
        let Some(inner) = assignment.inner(&file.text) else { continue };
        let differences = gone.differences(&CommandLine::parse(inner));
        if differences.is_empty() {
            continue;
        }
        let new = super::cmdline::edit(inner, gone);
        if let Some(text) = assignment.replace(&file.text, &new) {
            file.text = text;
            let found: Vec<_> = differences.iter().flat_map(|difference| difference.found.clone()).collect();
            notes.push(format!(
                "{}:{}: `{}` is removed from `{variable}`",
                file.path,
                assignment.line,
                found.join(" ")
            ));
        }
    }
}

/// Checks that the edited files give what is wanted.
pub(super) fn verify(
    files: &[Text],
    dialect: Dialect,
    wanted: &Wanted,
    own: Option<&AbsPath>,
) -> Result<Lines, Refusal> {
    let variables = evaluate(files, dialect);
    for target in [Target::Linux, Target::Xen] {
        let Some(request) = wanted.of(target) else { continue };
        for chain in Chain::of(target, &variables)? {
            let differences = request.differences(&CommandLine::parse(&chain.line(&variables)?));
            let Some(difference) = differences.first() else { continue };
            let last = variables.assignments(chain.last).rfind(|assignment| !assignment.keeps);
            if let (Some(own), Some(last)) = (own, last)
                && files[last.source].path > *own
                && files[last.source].path.parent() == own.parent()
            {
                let (path, line) = (files[last.source].path.clone(), last.line);
                return Err(Refusal::Overridden { path, line, variable: chain.last, own: own.clone() });
            }
            let place = [chain.last, chain.first].iter().find_map(|name| variables.assignments(name).next_back());
            let place = place.map_or(String::new(), |found| format!(" ({}:{})", files[found.source].path, found.line));
            return Err(Refusal::Stuck { variable: chain.last, difference: difference.to_string(), place });
        }
    }
    Ok(lines(&variables)?)
}

/// Returns what the regenerated file must hold.
pub(super) fn predicates(files: &[Text], dialect: Dialect, lines: &Lines, wanted: &Wanted) -> Vec<Predicate> {
    let variables = evaluate(files, dialect);
    let recovery = variables.get("GRUB_CMDLINE_LINUX_RECOVERY").ok().flatten().unwrap_or("single");
    let recovery = CommandLine::parse(recovery);
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let tokens = |line: &str, request: &Request| {
        let groups = request.groups();
        let line = CommandLine::parse(line);
        line.tokens()
            .filter(|token| groups.contains(&token.group()))
            .map(|token| token.text.clone())
            .collect::<Vec<_>>()
    };
    let mut predicates = Vec::new();
    if let Some(request) = wanted.linux.as_ref().filter(|request| !request.parameters().is_empty()) {
        predicates.push(Predicate {
            target: Target::Linux,
            section: "linux",
            first_words: words(&["linux", "linuxefi"]),
            except: recovery.tokens().map(|token| token.text.clone()).chain(words(&["single", "recovery"])).collect(),
            tokens: tokens(&lines.linux, request),
            every: true,
        });
    }
    if let Some(request) = wanted.xen.as_ref().filter(|request| !request.parameters().is_empty()) {
        predicates.push(Predicate {
            target: Target::Xen,
            section: "linux",
            first_words: words(&["multiboot", "multiboot2", "xen_hypervisor"]),
            except: vec![],
            tokens: tokens(&lines.xen, request),
            every: false,
        });
    }
    predicates
}

/// Returns how the file is generated, from the generator that the host has.
pub(super) fn generator(evidence: &Evidence, preferred: &str) -> Generator {
    let preferred = AbsPath::known(preferred);
    let grub_cfg = match evidence.grub_cfg.contains(&preferred) {
        true => preferred,
        false => evidence.grub_cfg.first().cloned().unwrap_or(preferred),
    };
    let mkconfig = evidence.mkconfig.as_ref().map_or("grub-mkconfig", |(path, _)| path.as_str());
    let check = match mkconfig.ends_with("grub2-mkconfig") {
        true => "grub2-script-check",
        false => "grub-script-check",
    };
    let grubenv = grub_cfg.parent().and_then(|directory| directory.join("grubenv").ok());
    Generator {
        grubenv: grubenv.unwrap_or_else(|| AbsPath::known("/boot/grub/grubenv")),
        grub_cfg,
        generate: vec![mkconfig.to_owned(), "-o".into(), "{}".into()],
        check: vec![check.to_owned(), "{}".into()],
    }
}

/// Returns the files that were changed.
pub(super) fn changed(files: Vec<Text>) -> Vec<FileEdit> {
    let edits = files.into_iter().filter(|file| file.before.as_ref().is_none_or(|before| before.0 != file.text));
    edits.map(|file| FileEdit { path: file.path, before: file.before, after: Some(Bytes(file.text)) }).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::os::boot::grub_cfg::GrubEnv;

    const XEN_CFG: &str = include_str!("../../../tests/data/grub/default/debian-xen");
    const CLOUD: &str = include_str!("../../../tests/data/grub/default/ubuntu-cloud");
    const DEBIAN: &str = include_str!("../../../tests/data/grub/default/debian-12");
    const SLES: &str = include_str!("../../../tests/data/grub/default/sles-15");
    const MENU: &str = include_str!("../../../tests/data/grub/cfg/debian-12-xen.cfg");
    const OWN: &str = "/etc/default/grub.d/99-vprov.cfg";

    fn debian(main: &str, drop_ins: &[(&str, &str)]) -> Evidence {
        Evidence {
            os_id: "debian".into(),
            arch: "x86_64".into(),
            default_grub: Some(main.into()),
            grub_d: drop_ins.iter().map(|(name, text)| ((*name).into(), (*text).into())).collect(),
            mkconfig: Some((
                AbsPath::known("/usr/sbin/grub-mkconfig"),
                "for x in ${sysconfdir}/default/grub.d/*.cfg".into(),
            )),
            grub_cfg: vec![AbsPath::known("/boot/grub/grub.cfg")],
            ..Evidence::default()
        }
    }

    fn suse(main: &str) -> Evidence {
        Evidence {
            os_id: "sles".into(),
            os_like: vec!["suse".into()],
            arch: "x86_64".into(),
            default_grub: Some(main.into()),
            mkconfig: Some((AbsPath::known("/usr/sbin/grub2-mkconfig"), "".into())),
            grub_cfg: vec![AbsPath::known("/boot/grub2/grub.cfg")],
            loader_type: Some("grub2-efi".into()),
            ..Evidence::default()
        }
    }

    fn request(target: Target, parameters: &[&str], absent: &[&str]) -> Option<Request> {
        Some(Request::new(target, parameters, absent).unwrap().0)
    }

    fn linux(parameters: &[&str], absent: &[&str]) -> Wanted {
        Wanted { linux: request(Target::Linux, parameters, absent), xen: None }
    }

    /// Returns the evidence after the edit was made.
    fn made(evidence: &Evidence, edit: &BootEdit) -> Evidence {
        let mut evidence = evidence.clone();
        for file in &edit.files {
            if file.path.as_str() == DEFAULT_GRUB {
                assert_eq!(evidence.default_grub, file.before);
                evidence.default_grub = file.after.clone();
            } else {
                let name = file.path.file_name().to_owned();
                evidence.grub_d.retain(|(other, _)| *other != name);
                evidence.grub_d.extend(file.after.clone().map(|after| (name, after)));
            }
        }
        evidence
    }

    /// Plans, and checks that a second plan is empty.
    fn planned(evidence: &Evidence, wanted: &Wanted) -> BootEdit {
        let edit = plan(evidence, wanted).unwrap_or_else(|error| panic!("{error}"));
        let again = plan(&made(evidence, &edit), wanted).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(again.files, []);
        assert_eq!(again.before, edit.after);
        edit
    }

    fn text<'a>(edit: &'a BootEdit, path: &str) -> Option<&'a str> {
        edit.files.iter().find(|file| file.path.as_str() == path)?.after.as_ref()?.text()
    }

    #[test]
    fn the_loader_is_decided_by_all_the_evidence() {
        let base = debian(DEBIAN, &[]);
        let mut cases: Vec<(Evidence, BootLoader)> = vec![(Evidence::default(), BootLoader::None)];
        let mut case = |loader: BootLoader, evidence: &Evidence, change: fn(&mut Evidence)| {
            let mut evidence = evidence.clone();
            change(&mut evidence);
            cases.push((evidence, loader));
        };
        case(BootLoader::GrubD, &base, |_| {});
        case(BootLoader::None, &base, |e| e.grub_cfg.clear());
        case(BootLoader::None, &base, |e| e.mkconfig = None);
        case(BootLoader::Zipl, &base, |e| e.arch = "s390x".into());
        case(BootLoader::Ostree, &base, |e| e.ostree = true);
        case(BootLoader::Ambiguous, &base, |e| e.systemd_boot = true);
        case(BootLoader::GrubD, &base, |e| (e.systemd_boot, e.loader_info) = (true, Some("GRUB 2.12".into())));
        case(BootLoader::SystemdBoot, &base, |e| e.loader_info = Some("systemd-boot 252".into()));
        case(BootLoader::SystemdBoot, &base, |e| (e.systemd_boot, e.mkconfig) = (true, None));
        case(BootLoader::SystemdBoot, &base, |e| (e.systemd_boot, e.grub_cfg) = (true, vec![]));
        case(BootLoader::GrubOther, &base, |e| {
            e.mkconfig = Some((AbsPath::known("/usr/sbin/grub-mkconfig"), "".into()))
        });
        let sles = suse(SLES);
        case(BootLoader::SuseGrub2, &sles, |_| {});
        case(BootLoader::SuseGrub2, &sles, |e| e.loader_type = None);
        case(BootLoader::SuseGrub2, &sles, |e| (e.os_id, e.os_like) = ("opensuse-leap".into(), vec![]));
        case(BootLoader::SuseGrub2, &sles, |e| e.systemd_boot = true);
        case(BootLoader::SuseBls, &sles, |e| e.loader_type = Some("grub2-bls".into()));
        case(BootLoader::SuseBls, &sles, |e| e.loader_type = Some("systemd-boot".into()));
        case(BootLoader::SuseTransactional, &sles, |e| e.transactional = true);
        case(BootLoader::GrubLegacy, &sles, |e| {
            (e.mkconfig, e.menu_lst, e.loader_type) = (None, true, Some("grub".into()))
        });
        case(BootLoader::GrubLegacy, &sles, |e| (e.mkconfig, e.menu_lst, e.loader_type) = (None, true, None));
        let rhel = |text: &str| Evidence {
            os_id: "rhel".into(),
            os_like: vec!["fedora".into()],
            loader_type: None,
            ..suse(text)
        };
        case(BootLoader::RhelBls, &rhel("GRUB_ENABLE_BLSCFG=true\n"), |_| {});
        case(BootLoader::RhelBls, &rhel(""), |e| e.bls_entries = true);
        case(BootLoader::GrubOther, &rhel("GRUB_ENABLE_BLSCFG=false\n"), |e| e.bls_entries = true);
        for (evidence, loader) in cases {
            assert_eq!(BootLoader::detect(&evidence), loader, "{evidence:?}");
            match loader.unsupported() {
                None => drop(planned(&evidence, &linux(&["a=1"], &[]))),
                Some(explanation) => {
                    let error = plan(&evidence, &linux(&["a=1"], &[])).unwrap_err().to_string();
                    assert!(error.contains(explanation) && error.contains(&loader.to_string()), "{error}");
                }
            }
        }
    }

    #[test]
    fn debian_has_a_drop_in() {
        let evidence = debian(DEBIAN, &[]);
        let huge = ["default_hugepagesz=1G", "hugepagesz=1G", "hugepages=4", "transparent_hugepage=madvise"];
        let edit = planned(&evidence, &linux(&huge, &[]));
        assert_eq!(
            text(&edit, OWN).unwrap(),
            "# Written by vprov: changes are lost. Read by grub-mkconfig after /etc/default/grub.\n\
             GRUB_CMDLINE_LINUX_DEFAULT=\"$GRUB_CMDLINE_LINUX_DEFAULT default_hugepagesz=1G hugepagesz=1G hugepages=4 \
             transparent_hugepage=madvise\"\n"
        );
        assert_eq!(edit.files.len(), 1);
        assert_eq!(edit.before.linux, "quiet");
        assert_eq!(edit.after.linux, format!("quiet {}", huge.join(" ")));
        assert_eq!(edit.predicates[0].tokens, huge);
        assert!(edit.predicates[0].except.contains(&"single".to_owned()));
        assert_eq!(edit.generator.generate, ["/usr/sbin/grub-mkconfig", "-o", "{}"]);
        assert_eq!(edit.generator.grubenv.as_str(), "/boot/grub/grubenv");
        // What is gone from the declaration is gone from the file; nothing left, no file.
        let there = made(&evidence, &edit);
        let less = planned(&there, &linux(&["transparent_hugepage=madvise"], &[]));
        assert_eq!(less.after.linux, "quiet transparent_hugepage=madvise");
        let none = planned(&there, &linux(&[], &[]));
        assert!(none.files.len() == 1 && none.files[0].after.is_none());
        assert_eq!(made(&there, &none), evidence);
        // A target that is not asked for stays.
        let xen = Wanted { linux: None, xen: request(Target::Xen, &["dom0_mem=4G,max:4G"], &[]) };
        let both = planned(&there, &xen);
        assert!(text(&both, OWN).unwrap().contains("hugepages=4"));
        assert!(
            text(&both, OWN)
                .unwrap()
                .ends_with("GRUB_CMDLINE_XEN_DEFAULT=\"$GRUB_CMDLINE_XEN_DEFAULT dom0_mem=4G,max:4G\"\n")
        );
        assert_eq!(
            planned(&made(&there, &both), &Wanted { xen: request(Target::Xen, &[], &[]), linux: None }).after,
            edit.after
        );
    }

    #[test]
    fn foreign_values_are_taken_out_of_their_own_files() {
        let main = "# \t c\nGRUB_CMDLINE_LINUX='x hugepages=9  y'\r\nGRUB_CMDLINE_LINUX_DEFAULT=\"quiet\"\n";
        let cloud = [
            ("50-cloudimg-settings.cfg", CLOUD),
            ("60.cfg", "GRUB_CMDLINE_LINUX=\"$GRUB_CMDLINE_LINUX console=tty9 z\"\n"),
        ];
        let edit = planned(&debian(main, &cloud), &linux(&["console=ttyS1", "hugepages=4"], &[]));
        assert_eq!(text(&edit, DEFAULT_GRUB).unwrap(), main.replace(" hugepages=9", ""));
        assert_eq!(
            text(&edit, "/etc/default/grub.d/50-cloudimg-settings.cfg").unwrap(),
            CLOUD.replace("console=tty1 console=ttyS0", "")
        );
        assert_eq!(
            text(&edit, "/etc/default/grub.d/60.cfg").unwrap(),
            "GRUB_CMDLINE_LINUX=\"$GRUB_CMDLINE_LINUX z\"\n"
        );
        assert_eq!(edit.after.linux, "x  y\r z console=ttyS1 hugepages=4");
        assert_eq!(edit.notes.len(), 3);
        assert!(
            edit.notes[0].starts_with("/etc/default/grub.d/60.cfg:1: `console=tty9` is removed"),
            "{:?}",
            edit.notes
        );
        // What already is there is left to its owner.
        let there = debian("GRUB_CMDLINE_LINUX='console=ttyS1 quiet'\n", &[]);
        assert_eq!(planned(&there, &linux(&["console=ttyS1"], &[])).files, []);
        // What shall not be there is removed wherever it is.
        let edit = planned(&there, &linux(&[], &["quiet", "console=ttyS1"]));
        assert_eq!(text(&edit, DEFAULT_GRUB).unwrap(), "GRUB_CMDLINE_LINUX=''\n");
    }

    #[test]
    fn overrides_and_what_cannot_be_edited_are_refused() {
        let later = [("99-zz.cfg", "\nGRUB_CMDLINE_LINUX_DEFAULT=\"quiet\"\n")];
        let cases = [
            (debian(DEBIAN, &later), "/etc/default/grub.d/99-zz.cfg:2: this assigns `GRUB_CMDLINE_LINUX_DEFAULT` anew"),
            (
                debian("GRUB_CMDLINE_LINUX=\"$(cat /x)\"\n", &[]),
                "/etc/default/grub:1: `GRUB_CMDLINE_LINUX=\"$(cat /x)\"`: the output",
            ),
            (debian("B='a=2'\nGRUB_CMDLINE_LINUX=\"$B\"\n", &[]), "would still give"),
            (debian("GRUB_CMDLINE_LINUX=x'a=2'\n if\n", &[]), "not closed"),
            (suse("GRUB_CMDLINE_LINUX_DEFAULT=\"$GRUB_CMDLINE_LINUX\"\n"), "is not assigned as one literal"),
            (suse("if x; then GRUB_CMDLINE_LINUX_DEFAULT=x; fi\n"), "not always assigned"),
        ];
        for (evidence, message) in cases {
            let error = plan(&evidence, &linux(&["a=1"], &[])).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
        // A later file that appends is no override.
        let appends = [("99-zz.cfg", "GRUB_CMDLINE_LINUX_DEFAULT=\"$GRUB_CMDLINE_LINUX_DEFAULT z\"\n")];
        assert_eq!(planned(&debian(DEBIAN, &appends), &linux(&["a=1"], &[])).after.linux, "quiet a=1 z");
    }

    #[test]
    fn xen_has_its_own_line_and_dom0_may_replace_that_of_linux() {
        let main = "GRUB_CMDLINE_LINUX_DEFAULT=quiet\nGRUB_CMDLINE_LINUX_XEN_REPLACE_DEFAULT=\"console=hvc0\"\n";
        let wanted = Wanted {
            linux: request(Target::Linux, &["a=1"], &[]),
            xen: request(Target::Xen, &["dom0_mem=1G+10%,max:1G+10%", "dom0_max_vcpus=4"], &[]),
        };
        let edit = planned(&debian(main, &[("xen.cfg", XEN_CFG)]), &wanted);
        assert_eq!(
            edit.after,
            Lines {
                linux: "quiet a=1".into(),
                dom0: "console=hvc0 a=1".into(),
                xen: "dom0_mem=1G+10%,max:1G+10% dom0_max_vcpus=4".into()
            }
        );
        assert_eq!(text(&edit, OWN).unwrap().lines().count(), 4);
        assert!(!edit.predicates[1].every);
    }

    #[test]
    fn suse_has_its_file_edited_in_place() {
        let wanted = Wanted {
            linux: request(Target::Linux, &["hugepagesz=2M", "hugepages=512", "mitigations=off"], &["resume"]),
            xen: request(Target::Xen, &["dom0_mem=4G,max:4G"], &[]),
        };
        let evidence = suse(SLES);
        let edit = planned(&evidence, &wanted);
        let expected = SLES
            .replace(
                "splash=silent resume=/dev/disk/by-uuid/1f0c security=apparmor mitigations=auto quiet",
                "splash=silent security=apparmor mitigations=off quiet hugepagesz=2M hugepages=512",
            )
            .replace("vga=gfx-1024x768x16", "vga=gfx-1024x768x16 dom0_mem=4G,max:4G")
            .replace(
                "\"splash=silent mitigations=auto quiet\"",
                "\"splash=silent mitigations=off quiet hugepagesz=2M hugepages=512\"",
            );
        assert_eq!(text(&edit, DEFAULT_GRUB).unwrap(), expected);
        assert_eq!(edit.generator.generate, ["/usr/sbin/grub2-mkconfig", "-o", "{}"]);
        assert_eq!(edit.generator.check, ["grub2-script-check", "{}"]);
        // Taking it back leaves what others wrote.
        let back = Wanted {
            linux: wanted.linux.map(|request| request.reverted()),
            xen: wanted.xen.map(|request| request.reverted()),
        };
        let reverted = planned(&made(&evidence, &edit), &back);
        assert_eq!(reverted.after.xen, "vga=gfx-1024x768x16");
        assert_eq!(reverted.after.linux, "splash=silent security=apparmor quiet");
        // A file without the variable gets a line; no file gets one.
        let missing = planned(&suse("GRUB_TIMEOUT=1"), &linux(&["a=1"], &[]));
        assert_eq!(text(&missing, DEFAULT_GRUB).unwrap(), "GRUB_TIMEOUT=1\nGRUB_CMDLINE_LINUX_DEFAULT=\"a=1\"\n");
        let none = Evidence { default_grub: None, ..suse("") };
        assert_eq!(
            text(&planned(&none, &linux(&["a=1"], &[])), DEFAULT_GRUB).unwrap(),
            "GRUB_CMDLINE_LINUX_DEFAULT=\"a=1\"\n"
        );
        assert_eq!(planned(&none, &linux(&[], &["x"])).files, []);
    }

    #[test]
    fn what_has_to_be_generated_again_follows_from_the_files() {
        let main = "GRUB_CMDLINE_LINUX_DEFAULT=\"quiet\"\nGRUB_CMDLINE_LINUX=\"console=tty0 foo=\\\"a b\\\"\"\n\
                    GRUB_CMDLINE_XEN='dom0_mem=4G,max:4G console=com1,vga'\n";
        let own = "GRUB_CMDLINE_XEN_DEFAULT=\"$GRUB_CMDLINE_XEN_DEFAULT dom0_max_vcpus=4\"\n";
        let menu = GrubCfg::parse(MENU).unwrap();
        let evidence = debian(main, &[("99-vprov.cfg", own)]);
        let wanted = Wanted { xen: request(Target::Xen, &["dom0_max_vcpus=4"], &[]), linux: None };
        let edit = plan(&evidence, &wanted).unwrap();
        assert_eq!(regeneration_due(&menu, &edit.after, &wanted), []);
        let more = Wanted { xen: request(Target::Xen, &["dom0_max_vcpus=8"], &[]), linux: None };
        let edit = planned(&evidence, &more);
        assert_eq!(regeneration_due(&menu, &edit.after, &more).len(), 3);
        // Words of others that the menu lacks count too.
        let other = debian(&main.replace("quiet", "quiet new=1"), &[("99-vprov.cfg", own)]);
        let edit = plan(&other, &wanted).unwrap();
        assert_eq!(regeneration_due(&menu, &edit.after, &wanted).len(), 6);
        assert!(menu.next_boot(&GrubEnv::default()).unwrap().entry.is_xen());
    }

    fn assignment() -> impl Strategy<Value = String> {
        let name = prop::sample::select(vec![
            "GRUB_CMDLINE_LINUX",
            "GRUB_CMDLINE_LINUX_DEFAULT",
            "GRUB_CMDLINE_XEN_DEFAULT",
            "GRUB_CMDLINE_LINUX_XEN_REPLACE",
            "GRUB_CMDLINE_LINUX_XEN_REPLACE_DEFAULT",
        ]);
        let words = "((a|b|c|hugepages)=[0-9]|quiet|  )( (a|b|hugepagesz|d)=(1|2M)){0,3}";
        (name, words, 0..5).prop_map(|(name, words, form)| match form {
            0 => format!("{name}=\"{words}\"\n"),
            1 => format!("{name}='{words}' # c\n"),
            2 => format!("export {name}=\"${name} {words}\"\r\n"),
            3 => format!("{name}=\"${{{name}:+${name} }}{words}\"\n"),
            _ => format!("# {name}={words}\n"),
        })
    }

    proptest! {
        #[test]
        fn a_plan_gives_what_is_wanted_and_keeps_foreign_words(
            main in prop::collection::vec(assignment(), 0..5),
            drop_in in prop::collection::vec(assignment(), 0..3),
            ours in prop::sample::subsequence(vec!["a=1", "b=7", "hugepagesz=2M", "hugepages=4"], 0..4),
            absent in prop::sample::subsequence(vec!["c", "quiet"], 0..2),
            on_suse in any::<bool>(),
        ) {
            let (main, drop_in) = (main.concat(), drop_in.concat());
            let Ok((request, _)) = Request::new(Target::Linux, &ours, &absent) else { return Ok(()) };
            let evidence = if on_suse { suse(&main) } else { debian(&main, &[("50.cfg", &drop_in)]) };
            let wanted = Wanted { linux: Some(request.clone()), xen: None };
            if let Ok(edit) = plan(&evidence, &wanted) {
                let again = plan(&made(&evidence, &edit), &wanted).unwrap();
                prop_assert_eq!(&again.files, &vec![]);
                prop_assert_eq!(&again.after, &edit.after);
                prop_assert_eq!(&edit.before.xen, &edit.after.xen);
                let foreign = |line: &str| {
                    let groups = request.groups();
                    let foreign = |text: &str| {
                        let token = crate::os::boot::cmdline::Token::new(text);
                        !groups.contains(&token.group()) && !request.absent().iter().any(|absent| absent.matches(&token))
                    };
                    line.split_whitespace().filter(|text| foreign(text)).map(str::to_owned).collect::<Vec<_>>()
                };
                prop_assert_eq!(foreign(&edit.before.linux), foreign(&edit.after.linux));
                prop_assert_eq!(request.differences(&CommandLine::parse(&edit.after.linux)), vec![]);
                prop_assert_eq!(request.differences(&CommandLine::parse(&edit.after.dom0)), vec![]);
            } else {
                // Only what is written in a way that is not one literal is refused.
                prop_assert!(on_suse || main.contains('$') || drop_in.contains('$'), "{main}");
            }
        }
    }
}
