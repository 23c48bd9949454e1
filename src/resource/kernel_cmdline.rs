//! The command line of the Linux kernel or of Xen, for the next boot.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Cannot, Claim, Declaration, Handle, Links, Memory, Problem, Remark, Resource, Seen, seen::parents_reads};
use crate::{
    host::{
        matcher::{Expectation, Lines, Matcher},
        op::{Check, Command, Op, Owner, Source, Step, UnderRoot},
        path::AbsPath,
        probe::Probe,
        read::{Answer, Read},
    },
    os::{
        boot::{
            cmdline::{self, Absent, Advice, CommandLine, Group, HugePageBlock, Request, Target, Token},
            driver::{self, BootEdit, DEFAULT_GRUB, Evidence, GRUB_D, Wanted},
            evidence::{self, GRUB_CFG, System, Unread, drop_ins},
            grub_cfg::{Choice, GrubCfg, GrubEnv},
        },
        xen,
    },
};

/// Memory that huge pages leave to the host unless a person says otherwise, in bytes.
const RESERVE: u64 = 1 << 30;

/// What no name makes vprov give away, in bytes: less than this does not boot.
const LEAST: u64 = 512 << 20;

/// What the next boot gives to the Linux kernel or to Xen as parameters.
///
/// Only the parameters that are named change; all others keep their bytes and their order. All `kernel_cmdline` of a host
/// are one edit: the boot loader's files are written, its menu is generated into a temporary file by the distribution's own
/// generator, checked (`grub-script-check`, the wanted parameters on each entry, every kernel that it names exists) and only
/// then installed. Which boot loader serves the host is read from it, never guessed; without a driver for it this
/// resource alone is refused, with what a person can do.
///
/// Removing it from the configuration leaves the parameter (with the next edit it goes, where vprov has a file of its own) and plans list
/// it as orphaned; `--prune` brings back the value before, or removes it.
///
/// A parameter takes effect at the next boot: the plan shows what is wanted, what the next boot will have and what runs, and
/// says that a reboot is due until they agree. Huge pages must leave the host a tenth of its memory, and at least 1 GiB.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KernelCmdline {
    /// Whose line: `linux` (on Xen that of dom0's kernel) or `xen`. `dom0_mem` belongs to Xen's.
    #[serde(default = "linux")]
    pub target: Target,
    /// The parameters, as `quiet` or `intel_iommu=on`. Words in one item stay together in their order, which huge pages
    /// need: `default_hugepagesz=1G hugepagesz=1G hugepages=4`. Other values of the same parameters are replaced.
    #[serde(default)]
    pub parameters: Vec<String>,
    /// Parameters that must not be there: a name for all its values, or `name=value` for that one.
    #[serde(default)]
    pub absent: Vec<String>,
    /// Memory that huge pages must leave to the host, as `4G`; said by name, it may be less than a tenth or 1 GiB.
    #[serde(default)]
    pub reserve: Option<String>,
    /// The other command lines of the host.
    #[serde(skip)]
    others: Vec<KernelCmdline>,
}

/// The parameters that are managed, as the boot loader's files and its menu have them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct State {
    /// Linux' parameters in the boot loader's files.
    #[serde(skip_serializing_if = "Option::is_none")]
    linux: Option<Vec<String>>,
    /// Xen's parameters in the boot loader's files.
    #[serde(skip_serializing_if = "Option::is_none")]
    xen: Option<Vec<String>>,
    /// Linux' parameters on Xen, where the files give dom0 others.
    #[serde(skip_serializing_if = "Option::is_none")]
    dom0: Option<Vec<String>>,
    /// The files say the same in other words than vprov's.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    rewritten: bool,
    /// Whether each entry of the boot menu is as those files say.
    menu: String,
}

/// What is known once everything is read.
struct Boot {
    edit: BootEdit,
    wanted: Wanted,
    /// The menu that stands now.
    menu: GrubCfg,
    environment: GrubEnv,
    advice: Vec<Advice>,
    /// How many entries of the menu lack something once the files are written.
    due: usize,
    /// Parameters are wanted for Xen, and no entry of the menu boots it.
    lacks_xen: bool,
}

const NO_XEN: &str = "no entry of the boot menu boots Xen, so there is no line for its parameters";

impl Resource for KernelCmdline {
    const KIND: &'static str = "kernel_cmdline";
    const EXAMPLE: &'static str =
        "kernel_cmdline: { parameters: [intel_iommu=on, \"default_hugepagesz=1G hugepagesz=1G hugepages=4\"] }";
    const IN_FILES: &'static [&'static str] = &["linux", "xen", "dom0"];
    const SHARED: bool = true;
    type State = State;

    fn name(&self) -> String {
        "boot".into()
    }

    fn check(&self) -> Vec<Problem> {
        let mut problems = vec![];
        let none: [&str; 0] = [];
        for (at, item) in self.parameters.iter().enumerate() {
            let words: Vec<&str> = item.split_whitespace().collect();
            let path = ["parameters", &at.to_string()];
            if words.is_empty() {
                problems.push(Problem::new(&path, "the parameter is empty"));
            } else if item.contains(['\n', '\r']) {
                let problem = Problem::new(&path, "a line break stands in the parameter; parameters stand on one line");
                problems.push(problem.help("write one item for each parameter, or separate words by spaces"));
            } else if let Err(error) = Request::new(self.target, &words, &none) {
                problems.push(Problem::new(&path, error.to_string()));
            }
        }
        for (at, item) in self.absent.iter().enumerate() {
            if let Err(error) = Request::new(self.target, &[], &[item.as_str()]) {
                problems.push(Problem::new(&["absent", &at.to_string()], error.to_string()));
            }
        }
        if let Some(reserve) = &self.reserve
            && parse_size(reserve).is_none()
        {
            problems.push(Problem::new(&["reserve"], format!("`{reserve}` is no size")).help("write like `8G`"));
        }
        if self.parameters.is_empty() && self.absent.is_empty() {
            problems.push(Problem::new(&[], "neither `parameters` nor `absent` says anything"));
        }
        if problems.is_empty()
            && let Err(error) =
                Request::new(self.target, &self.words(), &self.absent.iter().map(String::as_str).collect::<Vec<_>>())
        {
            problems.push(Problem::new(&["parameters"], error.to_string()));
        }
        problems
    }

    fn claims(&self) -> Vec<Claim> {
        self.all().flat_map(KernelCmdline::own_claims).collect()
    }

    fn release(&mut self, key: &str) -> bool {
        let target = self.target;
        let of = |word: &str| claim_key(target, &Token::new(word).group());
        for item in &mut self.parameters {
            let left: Vec<&str> = item.split_whitespace().filter(|word| of(word) != key).collect();
            *item = left.join(" ");
        }
        self.parameters.retain(|item| !item.is_empty());
        self.absent.retain(|item| of(item) != key);
        !self.parameters.is_empty() || !self.absent.is_empty()
    }

    fn merge_key(&self) -> Option<String> {
        Some("boot".into())
    }

    fn absorb(&mut self, mut other: Self) {
        let more = std::mem::take(&mut other.others);
        self.others.push(other);
        self.others.extend(more);
    }

    fn links(&self) -> Links {
        Links { provides: vec![], needs: vec![Handle::Path(AbsPath::known(DEFAULT_GRUB))] }
    }

    fn reads(&self, seen: &Seen) -> Vec<Read> {
        let mut reads = evidence::reads();
        reads.extend(GRUB_CFG.iter().map(|path| Read::content(AbsPath::known(path))));
        reads.extend(GRUB_CFG.iter().chain(&[DEFAULT_GRUB]).map(|path| Read::entry(AbsPath::known(path))));
        reads.extend(GRUB_CFG.iter().map(|path| environment(path)));
        if seen.facts.virt.dom0 && !seen.offline {
            reads.push(xl());
        }
        let own = drop_in();
        reads.extend(parents_reads(&own));
        reads.push(Read::entry(own));
        if let Answer::Paths(paths) = seen.get(&drop_ins()) {
            reads.extend(paths.iter().map(|(path, _)| Read::entry(path.clone())));
        }
        reads
    }

    fn current(&self, seen: &Seen) -> Result<Option<State>, Cannot> {
        let boot = self.boot(seen)?;
        let (before, after) = (boot.before(), boot.after());
        let rewritten = !boot.edit.files.is_empty() && before == after;
        Ok(Some(State { rewritten, menu: menu(if seen.offline { 0 } else { boot.due }), ..before }))
    }

    fn desired(&self, seen: &Seen, _: Option<&State>) -> Result<Option<State>, Cannot> {
        let boot = self.boot(seen)?;
        if let Some(request) = &boot.wanted.linux {
            self.check_memory(seen, request)?;
        }
        // Linux' line is brought there first; then the refusal says what is missing.
        if boot.lacks_xen && (boot.wanted.linux.is_none() || (boot.edit.files.is_empty() && boot.due == 0)) {
            return Err(Cannot::Refused(format!("{NO_XEN}; install the hypervisor first")));
        }
        Ok(Some(boot.after()))
    }

    fn steps(&self, seen: &Seen, _: Option<&State>, _: Option<&State>) -> Result<Vec<Step>, Cannot> {
        let boot = self.boot(seen)?;
        let mut steps = vec![];
        for file in &boot.edit.files {
            match &file.after {
                Some(after) => {
                    steps.append(&mut seen.make_parents(&file.path));
                    let owner = seen.owner_or(&file.path, Owner::root(0o644));
                    steps.push(seen.write(&file.path, after.clone(), owner));
                }
                None => steps.push(seen.remove(&file.path)),
            }
        }
        if boot.due > 0 && !seen.offline {
            steps.append(&mut regenerate(seen, &boot));
        }
        Ok(steps)
    }

    fn remembers(&self, seen: &Seen, _: Option<&State>, _: Option<&State>, _: &[Step]) -> Vec<Memory> {
        let Ok(boot) = self.boot(seen) else { return vec![] };
        let mut memories = vec![];
        for target in [Target::Linux, Target::Xen] {
            let Some(request) = boot.wanted.of(target) else { continue };
            let line = CommandLine::parse(boot.edit.before.of(target));
            let absent = request.absent().iter().filter_map(|absent| match absent {
                Absent::Group(group) => Some(group.clone()),
                Absent::Token(_) => None,
            });
            for group in request.groups().into_iter().chain(absent) {
                let (was, is) = (texts(&line.group(&group)), texts(&request.group(&group)));
                if was != is {
                    let of = |words: &[String]| Declaration::new(Self::KIND, declared(target, &group, words));
                    memories.push(Memory::new(claim_key(target, &group), of(&is), of(&was)));
                }
            }
        }
        memories
    }

    fn things(&self, _: &Seen) -> BTreeSet<String> {
        self.claims().into_iter().map(|claim| claim.key).collect()
    }

    /// A parameter of one file with others goes with the next edit of it, so one that is gone is as vprov left it too.
    fn stands(&self, seen: &Seen) -> Result<bool, Cannot> {
        let boot = self.boot(seen)?;
        let stands = |target: Target| {
            let line = CommandLine::parse(boot.edit.before.of(target));
            boot.wanted
                .of(target)
                .is_none_or(|request| request.differences(&line).iter().all(|difference| difference.found.is_empty()))
        };
        Ok(stands(Target::Linux) && stands(Target::Xen))
    }

    fn remarks(&self, seen: &Seen) -> Vec<Remark> {
        let Ok(boot) = self.boot(seen) else { return vec![] };
        let mut remarks: Vec<Remark> = boot
            .advice
            .iter()
            .map(|advice| Remark::warning(format!("`{}`: {}", advice.parameter, advice.text)))
            .collect();
        remarks.extend(boot.edit.notes.iter().map(Remark::warning));
        if boot.lacks_xen {
            remarks.push(Remark::warning_with_help(NO_XEN, "install the hypervisor, or declare them where it is"));
        }
        if seen.offline {
            if boot.due > 0 {
                let (file, argv) = (&boot.edit.generator.grub_cfg, boot.edit.generator.generate.join(" "));
                let text =
                    format!("{file} below the root is not generated anew: its generator asks the running system");
                let argv = argv.replace("{}", file.as_str());
                remarks.push(Remark::warning_with_help(
                    text,
                    format!("run `{argv}` in the root, or boot it and apply there"),
                ));
            }
            return remarks;
        }
        let (chosen, warning) = chosen(&boot);
        remarks.extend(warning);
        for target in [Target::Linux, Target::Xen] {
            let Some(request) = boot.wanted.of(target) else { continue };
            let Some(running) = running(seen, target) else { continue };
            for difference in request.differences(&CommandLine::parse(&running)) {
                let shown = |tokens: &[String]| if tokens.is_empty() { "nothing".into() } else { tokens.join(" ") };
                let configured = match chosen.as_ref().and_then(|chosen| chosen.of(target)) {
                    Some(line) => shown(&texts(&CommandLine::parse(line).group(&difference.group))),
                    None => "unknown".into(),
                };
                let attribute = match target {
                    Target::Linux => difference.group.to_string(),
                    Target::Xen => format!("xen {}", difference.group),
                };
                let desired = shown(&difference.wanted);
                remarks.push(Remark::Reboot { attribute, desired, configured, running: shown(&difference.found) });
            }
        }
        remarks
    }
}

impl KernelCmdline {
    /// Returns all of the host in an order that does not depend on that of the files.
    fn all(&self) -> impl Iterator<Item = &KernelCmdline> {
        let mut all: Vec<&Self> = std::iter::once(self).chain(&self.others).collect();
        all.sort_by(|a, b| (a.target, &a.parameters, &a.absent).cmp(&(b.target, &b.parameters, &b.absent)));
        all.into_iter()
    }

    fn words(&self) -> Vec<&str> {
        self.parameters.iter().flat_map(|item| item.split_whitespace()).collect()
    }

    fn own_claims(&self) -> Vec<Claim> {
        let mut claims: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for word in self.words() {
            let token = Token::new(word);
            claims.entry(claim_key(self.target, &token.group())).or_default().push(token.canonical());
        }
        for item in &self.absent {
            let token = Token::new(item);
            // One value of a parameter that may stand several times is no claim on the others.
            if token.value.is_none() {
                claims.entry(claim_key(self.target, &token.group())).or_default().push("(absent)".into());
            }
        }
        claims.into_iter().map(|(key, values)| Claim { key, value: values.join(" ") }).collect()
    }

    /// Returns what is wanted of both lines.
    fn wanted(&self) -> Result<(Wanted, Vec<Advice>), Cannot> {
        let mut advice = vec![];
        let mut of = |target: Target| {
            let all: Vec<&Self> = self.all().filter(|one| one.target == target).collect();
            if all.is_empty() {
                return Ok(None);
            }
            let parameters: Vec<&str> = all.iter().flat_map(|one| one.words()).collect();
            let absent: Vec<&str> = all.iter().flat_map(|one| one.absent.iter().map(String::as_str)).collect();
            let (request, found) =
                Request::new(target, &parameters, &absent).map_err(|error| Cannot::Refused(error.to_string()))?;
            advice.extend(found);
            Ok(Some(request))
        };
        let wanted = Wanted { linux: of(Target::Linux)?, xen: of(Target::Xen)? };
        Ok((wanted, advice))
    }

    fn boot(&self, seen: &Seen) -> Result<Boot, Cannot> {
        let (mut wanted, advice) = self.wanted()?;
        let evidence = collect(seen)?;
        let planned =
            |wanted: &Wanted| driver::plan(&evidence, wanted).map_err(|error| Cannot::Refused(error.to_string()));
        let mut edit = planned(&wanted)?;
        for file in &edit.files {
            // What is written is what stands there, not what a link leads to.
            seen.entry(&file.path)?;
        }
        let grub_cfg = &edit.generator.grub_cfg;
        let text = match seen.get(&Read::content(grub_cfg.clone())) {
            Answer::Denied => {
                return Err(Cannot::Unknown(format!("{grub_cfg} may not be read by this user; it needs root")));
            }
            _ => seen.text(grub_cfg)?.unwrap_or_default(),
        };
        let menu = GrubCfg::parse(text).map_err(|error| Cannot::Refused(format!("{grub_cfg}: {error}")))?;
        let is_wanted = wanted.xen.as_ref().is_some_and(|request| !request.parameters().is_empty());
        let lacks_xen = is_wanted && !menu.boot_entries().iter().any(|entry| entry.is_xen());
        let environment = seen.get(&environment(grub_cfg.as_str())).text();
        if lacks_xen {
            wanted.xen = None;
            edit = planned(&wanted)?;
        }
        let environment = environment.and_then(|text| GrubEnv::parse(text).ok()).unwrap_or_default();
        let due = driver::regeneration_due(&menu, &edit.after, &wanted);
        let due = due.iter().map(|entry| &entry.title).collect::<BTreeSet<_>>().len();
        Ok(Boot { edit, wanted, menu, environment, advice, due, lacks_xen })
    }

    /// Refuses more huge pages than the host can give without starving (domain of mm/hugetlb.c; guide 4.1.1).
    fn check_memory(&self, seen: &Seen, request: &Request) -> Result<(), Cannot> {
        let refused = |text: String| Err(Cannot::Refused(text));
        let block = HugePageBlock::parse(&request.group(&Group::HugePages));
        let block = block.map_err(|error| Cannot::Refused(error.to_string()))?;
        let (facts, offered) = (seen.facts, &seen.facts.hugepages.sizes);
        // Below a root the memory and the processor are those of nobody.
        if block.pools.is_empty() || facts.memory.total == 0 {
            return Ok(());
        }
        for size in block.sizes() {
            if !offered.is_empty() && !offered.iter().any(|offer| cmdline::size(offer) == Some(size)) {
                let (size, offered) = (cmdline::format_size(size), offered.join("`, `"));
                return refused(format!("this host has no huge pages of {size}; it offers `{offered}`"));
            }
        }
        let default = cmdline::size(&facts.hugepages.default_size).unwrap_or(2 << 20);
        let (Some(asked), Some(nodes)) = (block.total_bytes(default), block.node_bytes(default)) else {
            return refused("more huge pages are asked for than can be counted".into());
        };
        let by_name = self.all().filter_map(|one| parse_size(one.reserve.as_deref()?)).max();
        let reserve = |memory: u64| by_name.unwrap_or((memory / 10).max(RESERVE));
        // A reserve that a person names is meant to be a part of the memory that is built in, of which the kernel keeps some.
        let total = match by_name {
            Some(_) if !facts.virt.dom0 => facts.memory.total.max(facts.memory.installed_gib << 30),
            _ => facts.memory.total,
        };
        if asked.saturating_add(reserve(total)) > total || asked.saturating_add(LEAST) > facts.memory.total {
            return refused(format!(
                "huge pages of {} leave less than {} of the host's {} to the host, which might not boot; ask for fewer, or say \
                 `reserve`",
                mebibytes(asked),
                mebibytes(reserve(total)),
                mebibytes(total)
            ));
        }
        for (id, asked) in nodes {
            let Some(node) = facts.numa.iter().find(|node| node.id == u64::from(id)) else {
                return refused(format!("there is no NUMA node {id}: the kernel would ignore the whole count"));
            };
            let left = by_name.map_or(node.memory / 10, |_| 0);
            if asked.saturating_add(left) > node.memory {
                return refused(format!(
                    "huge pages of {} on node {id} leave less than a tenth of its {}; ask for fewer, or say `reserve`",
                    mebibytes(asked),
                    mebibytes(node.memory)
                ));
            }
        }
        Ok(())
    }
}

impl Boot {
    /// Returns what the files give now, words that the change drops included.
    fn before(&self) -> State {
        self.state(&self.edit.before, &self.edit.after)
    }

    /// Returns what the files will give.
    fn after(&self) -> State {
        self.state(&self.edit.after, &self.edit.after)
    }

    fn state(&self, lines: &driver::Lines, after: &driver::Lines) -> State {
        let of = |line: &str, after: &str, request: Option<&Request>| Some(managed(line, after, request?));
        let (linux, xen) = (self.wanted.linux.as_ref(), self.wanted.xen.as_ref());
        let dom0 = |lines: &driver::Lines| of(&lines.dom0, &after.dom0, linux);
        let plain = |lines: &driver::Lines| of(&lines.linux, &after.linux, linux);
        let apart = [&self.edit.before, &self.edit.after].iter().any(|lines| dom0(lines) != plain(lines));
        State {
            linux: plain(lines),
            xen: of(&lines.xen, &after.xen, xen),
            dom0: if apart { dom0(lines) } else { None },
            rewritten: false,
            menu: menu(0),
        }
    }
}

/// Says how many entries of the menu are not as the files say.
fn menu(outdated: usize) -> String {
    match outdated {
        0 => "up to date".into(),
        1 => "1 entry outdated".into(),
        n => format!("{n} entries outdated"),
    }
}

fn linux() -> Target {
    Target::Linux
}

fn claim_key(target: Target, group: &Group) -> String {
    format!("{target}:{group}")
}

/// Returns the parameters of a declaration of one group; no words say that it is absent.
fn declared(target: Target, group: &Group, words: &[String]) -> serde_json::Value {
    match words {
        [] => json!({ "target": target, "absent": [group.to_string()] }),
        // The memory that they need was the host's own business.
        words => json!({ "target": target, "parameters": [words.join(" ")] }),
    }
}

fn texts(tokens: &[Token]) -> Vec<String> {
    tokens.iter().map(|token| token.text.clone()).collect()
}

/// Returns the tokens of a line that a request is about, or that the line will not have any more, in their order.
fn managed(line: &str, after: &str, request: &Request) -> Vec<String> {
    let groups = request.groups();
    let (line, after) = (CommandLine::parse(line), CommandLine::parse(after));
    let of = |token: &&Token| {
        groups.contains(&token.group())
            || request.absent().iter().any(|absent| absent.matches(token))
            || !after.tokens().any(|other| other.canonical() == token.canonical())
    };
    line.tokens().filter(of).map(|token| token.text.clone()).collect()
}

fn parse_size(text: &str) -> Option<u64> {
    cmdline::memparse(text).filter(|(_, rest)| matches!(*rest, "" | "B" | "iB")).map(|(bytes, _)| bytes)
}

fn mebibytes(bytes: u64) -> String {
    match bytes >> 20 {
        mib if mib >= 10 << 10 => format!("{} GiB", mib >> 10),
        mib => format!("{mib} MiB"),
    }
}

fn drop_in() -> AbsPath {
    AbsPath::known(&format!("{GRUB_D}/{}", crate::os::boot::DROP_IN))
}

fn environment(grub_cfg: &str) -> Read {
    Read::content(AbsPath::known(&grub_cfg.replace("grub.cfg", "grubenv")))
}

fn xl() -> Read {
    Read::Probe(Probe::once(["xl", "info"]))
}

/// Returns the line that runs; `None` where there is no telling.
fn running(seen: &Seen, target: Target) -> Option<String> {
    let line = match target {
        Target::Linux => seen.facts.boot.cmdline.clone(),
        Target::Xen => xen::parse_info(seen.get(&xl()).text()?).ok()?.commandline,
    };
    (!line.is_empty()).then_some(line)
}

/// The lines of an entry that no generator makes, so that the next boot has what it says.
struct Chosen {
    linux: Option<String>,
    xen: Option<String>,
}

impl Chosen {
    fn of(&self, target: Target) -> Option<&String> {
        match target {
            Target::Linux => self.linux.as_ref(),
            Target::Xen => self.xen.as_ref(),
        }
    }
}

/// Returns the lines of the next boot's entry where the change does not reach it, and a warning about that.
fn chosen(boot: &Boot) -> (Option<Chosen>, Option<Remark>) {
    let next = match boot.menu.next_boot(&boot.environment) {
        Ok(next) => next,
        Err(error) => return (None, Some(Remark::warning(format!("the next boot's entry is not known: {error}")))),
    };
    let line = |target| next.entry.loaded(target).map(|loaded| loaded.line);
    let chosen = Chosen { linux: line(Target::Linux), xen: line(Target::Xen) };
    if next.entry.is_generated() && !next.entry.is_recovery() {
        return (Some(chosen), None);
    }
    let by = match next.choice {
        Choice::Once => "chosen for one boot",
        Choice::Saved => "saved as the default",
        Choice::Default => "the default",
    };
    let text = format!("the next boot takes `{}` ({by}), which the change does not reach", next.path.join("` > `"));
    (Some(chosen), Some(Remark::warning(text)))
}

/// Collects what tells the boot loader.
fn collect(seen: &Seen) -> Result<Evidence, Cannot> {
    let system = System {
        os_id: &seen.facts.os.id,
        os_like: &seen.facts.os.id_like,
        arch: &seen.facts.kernel.arch,
        transactional: seen.facts.transactional && seen.facts.read_only_root,
    };
    evidence::collect(seen.observed, system).map_err(|error| match error {
        Unread::Denied(_) => Cannot::Unknown(error.to_string()),
        Unread::Strange(..) => Cannot::Refused(error.to_string()),
    })
}

/// Returns the steps that generate the menu, judge it and install it.
fn regenerate(seen: &Seen, boot: &Boot) -> Vec<Step> {
    let generator = &boot.edit.generator;
    let name = "grub.cfg";
    let generate = Command::new(generator.generate.clone()).with_staged(name).timeout(600);
    let check = Command::new(generator.check.clone()).with_staged(name).under_root(UnderRoot::AsIs);
    let mut steps = vec![
        Step::new(Op::Stage { name: name.into(), source: Source::Argument(generate) }),
        Step::new(Op::Check(Check::Succeeds(check))),
    ];
    let matchers = matchers(boot);
    for matcher in &matchers {
        steps.push(Step::new(Op::Check(Check::Staged { name: name.into(), matcher: matcher.clone() })));
    }
    // Entries of other systems name files that are not here.
    if boot.menu.boot_entries().iter().all(|entry| entry.is_generated()) {
        steps.push(Step::new(Op::Check(Check::PathsExist {
            name: name.into(),
            first_words: ["linux", "linuxefi", "initrd", "initrdefi"].map(Into::into).into(),
            word: 1,
            below: vec![AbsPath::known("/boot"), AbsPath::known("/")],
        })));
    }
    let path = generator.grub_cfg.clone();
    let read = Read::entry(path.clone());
    let owner = seen.owner_or(&path, Owner::root(0o600));
    let op = Op::Install { name: name.into(), path, owner, derived: true };
    let answer = seen.get(&read);
    let mut install = Step::new(op).guard(Expectation::new(read.clone(), Matcher::same_as(answer)));
    // A result that stands already would say that there is nothing to do, although words of others are missing.
    if !matchers.iter().all(|matcher| matcher.matches(answer)) {
        for matcher in matchers {
            install = install.after(Expectation::new(read.clone(), matcher));
        }
    }
    steps.push(install);
    steps
}

/// Returns what the generated menu must hold.
fn matchers(boot: &Boot) -> Vec<Matcher> {
    let shows_xen = boot.menu.boot_entries().iter().any(|entry| entry.loaded(Target::Xen).is_some());
    let mut matchers = vec![];
    for predicate in &boot.edit.predicates {
        // SUSE writes Xen's line into a file on the EFI partition.
        if predicate.target == Target::Xen && !shows_xen {
            continue;
        }
        let request = boot.wanted.of(predicate.target);
        matchers.push(Matcher::Lines(Lines {
            section: predicate.section.into(),
            every: predicate.every,
            first_words: predicate.first_words.clone(),
            except: predicate.except.clone(),
            tokens: predicate.tokens.clone(),
            absent: if predicate.every { request.map(unwanted).unwrap_or_default() } else { vec![] },
        }));
    }
    matchers
}

/// Returns the beginnings of words that no line may hold beyond what is wanted.
fn unwanted(request: &Request) -> Vec<String> {
    let mut names = vec![];
    let absent = request.absent().iter().filter_map(|absent| match absent {
        Absent::Group(group) => Some(group.clone()),
        Absent::Token(_) => None,
    });
    for group in request.groups().into_iter().chain(absent) {
        match group {
            Group::HugePages => {
                names.extend(["default_hugepagesz=", "hugepagesz=", "hugepages="].map(String::from));
            }
            Group::Name(name) => names.extend([format!("{name}="), name]),
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        facts::{HugePages, Memory, Node},
        resource::world::{World, parse, plan_of},
    };

    const DEFAULT: &str = include_str!("../../tests/data/grub/default/debian-12");
    const SLES: &str = include_str!("../../tests/data/grub/default/sles-15");
    const MENU: &str = include_str!("../../tests/data/grub/cfg/debian-12.cfg");
    const XEN_MENU: &str = include_str!("../../tests/data/grub/cfg/debian-12-xen.cfg");
    const HUGE: &str = "kernel_cmdline: { parameters: [\"default_hugepagesz=1G hugepagesz=1G hugepages=4\"] }";

    fn debian() -> World {
        let mut world = World::systemd()
            .file("/etc/default/grub", DEFAULT)
            .file("/usr/sbin/grub-mkconfig", "for x in ${sysconfdir}/default/grub.d/*.cfg ; do\n")
            .directory("/etc/default/grub.d")
            .file_with_mode("/boot/grub/grub.cfg", MENU, 0o444);
        world.facts.os.id = "debian".into();
        world.facts.kernel.arch = "x86_64".into();
        world.facts.boot.cmdline = "BOOT_IMAGE=/vmlinuz root=/dev/vda1 ro quiet".into();
        world.facts.memory = Memory { total: 64 << 30, installed_gib: 64 };
        world.facts.numa = vec![
            Node { id: 0, memory: 32 << 30, cpus: "0-3".into() },
            Node { id: 1, memory: 32 << 30, cpus: "4-7".into() },
        ];
        world.facts.hugepages = HugePages { sizes: vec!["2M".into(), "1G".into()], default_size: "2M".into() };
        world
    }

    fn suse() -> World {
        let mut world = World::systemd()
            .file("/etc/default/grub", SLES)
            .file("/usr/sbin/grub2-mkconfig", "#!/bin/sh\n")
            .file("/etc/sysconfig/bootloader", "LOADER_TYPE=\"grub2-efi\"\n")
            .file_with_mode("/boot/grub2/grub.cfg", MENU, 0o600);
        world.facts.os.id = "sles".into();
        world.facts.kernel.arch = "x86_64".into();
        world
    }

    fn refused(world: &World, entry: &str, words: &str) {
        match world.plan(entry) {
            Err(Cannot::Refused(text)) => assert!(text.contains(words), "{text}"),
            other => panic!("{entry}: {other:?}"),
        }
    }

    /// Puts parameters on each kernel's line of a menu, as the generator would.
    fn generated(menu: &str, words: &str) -> String {
        let line = |line: &str| match line.trim_start().starts_with("linux") && !line.contains("single") {
            true => format!("{} {words}\n", line.trim_end()),
            false => format!("{line}\n"),
        };
        menu.lines().map(line).collect()
    }

    #[test]
    fn debian_has_a_drop_in_and_a_menu_that_is_judged() {
        let world = debian();
        let comparison = world.compare(HUGE);
        let reboot = |remark: &&Remark| matches!(remark, Remark::Reboot { .. });
        let remark = comparison.remarks.iter().find(reboot).unwrap().clone();
        let wanted = "default_hugepagesz=1G hugepagesz=1G hugepages=4";
        let reboot_of = |configured: &str| Remark::Reboot {
            attribute: "hugepages".into(),
            desired: wanted.into(),
            configured: configured.into(),
            running: "nothing".into(),
        };
        assert_eq!(remark, reboot_of("nothing"), "nothing is configured before the change");
        let steps = comparison.result.clone().unwrap().unwrap().steps;
        let (fields, done) = plan_of(comparison).unwrap();
        assert_eq!(fields[0], "linux: [] -> [\"default_hugepagesz=1G\",\"hugepagesz=1G\",\"hugepages=4\"]");
        assert_eq!(fields[1], "menu: \"3 entries outdated\" -> \"up to date\"");
        assert_eq!(
            done,
            [
                "write /etc/default/grub.d/99-vprov.cfg",
                "generate by /usr/sbin/grub-mkconfig -o {}",
                "check by grub-script-check {}",
                "check for `default_hugepagesz=1G hugepagesz=1G hugepages=4` on each line that begins with linux or linuxefi",
                "check that every file it names exists",
                "install /boot/grub/grub.cfg",
            ]
        );
        // Once it is done, nothing is left to do but to boot.
        let mut after = world;
        after.apply(&steps);
        let after = after.file_with_mode("/boot/grub/grub.cfg", &generated(MENU, wanted), 0o444);
        assert!(
            steps.last().unwrap().after.iter().all(|after_it| after_it.matcher.matches(&after.answer(&after_it.read)))
        );
        assert_eq!(after.plan(HUGE), Ok((vec![], vec![])));
        assert!(after.compare(HUGE).remarks.contains(&reboot_of(wanted)));
        let mut booted = after.clone();
        booted.facts.boot.cmdline += " default_hugepagesz=1024M hugepagesz=1G hugepages=4";
        assert_eq!(booted.compare(HUGE).remarks, []);
        // A menu that somebody made with other files is made again, though the words of ours are there.
        let edited = after.file("/etc/default/grub", &DEFAULT.replace("quiet", "quiet mitigations=auto"));
        let (fields, done) = edited.plan(HUGE).unwrap();
        assert_eq!((fields.len(), done.len()), (1, 5), "{fields:?} {done:?}");
    }

    #[test]
    fn suse_has_its_file_edited_in_place() {
        let world = suse();
        let (fields, done) = world.plan("kernel_cmdline: { parameters: [intel_iommu=on], absent: [quiet] }").unwrap();
        assert!(fields[0].contains("intel_iommu=on"), "{fields:?}");
        assert_eq!(done[0], "write /etc/default/grub");
        assert_eq!(done[1], "generate by /usr/sbin/grub2-mkconfig -o {}");
        assert_eq!(done.last().unwrap(), "install /boot/grub2/grub.cfg");
    }

    #[test]
    fn command_lines_of_a_host_are_one_edit() {
        let mut one = parse(HUGE).unwrap();
        one.absorb(parse("kernel_cmdline: { parameters: [intel_iommu=on] }").unwrap());
        assert_eq!(one.address().to_string(), "kernel_cmdline[boot]");
        let keys: Vec<_> = one.claims().into_iter().map(|claim| claim.key).collect();
        assert_eq!(keys, ["linux:hugepages", "linux:intel_iommu"]);
        let world = debian();
        let observed = world.observe(&*one, &[]);
        let seen = Seen { observed: &observed, facts: &world.facts, offline: false };
        let steps = one.compare(&seen).result.unwrap().unwrap().steps;
        let writes = steps.iter().filter(|step| matches!(step.op, Op::Write { .. })).count();
        assert_eq!(writes, 1);
        let mut weak = parse("kernel_cmdline: { parameters: [quiet, \"a=1 b=2\"], absent: [c] }").unwrap();
        assert!(weak.release("linux:a") && weak.release("linux:c") && weak.release("linux:quiet"));
        assert_eq!(weak.claims().len(), 1);
        assert!(!weak.release("linux:b"));
    }

    #[test]
    fn huge_pages_leave_the_host_its_memory() {
        let pages = |words: &str| format!("kernel_cmdline: {{ parameters: [\"{words}\"] }}");
        refused(&debian(), &pages("hugepagesz=1G hugepages=60"), "leave less than 6553 MiB of the host's 64 GiB");
        refused(&debian(), &pages("hugepagesz=1G hugepages=0:30"), "on node 0");
        refused(&debian(), &pages("hugepagesz=1G hugepages=2:1"), "no NUMA node 2");
        refused(&debian(), &pages("hugepagesz=16G hugepages=1"), "it offers `2M`, `1G`");
        let named = "kernel_cmdline: { parameters: [\"hugepagesz=1G hugepages=60\"], reserve: 4G }";
        assert!(debian().plan(named).is_ok());
        refused(&debian(), &named.replace("4G", "5G"), "less than 5120 MiB");
        assert!(debian().plan(&pages("hugepagesz=1G hugepages=57")).is_ok());
    }

    #[test]
    fn xen_has_a_line_of_its_own() {
        let entry = "kernel_cmdline: { target: xen, parameters: [\"dom0_mem=4G,max:4G\"] }";
        refused(&debian(), entry, "no entry of the boot menu boots Xen");
        // What is wanted of Linux goes on, with a warning; once it stands, the refusal is Xen's alone.
        let both = |world: &World| {
            let mut resource = parse("kernel_cmdline: { parameters: [quiet, audit=0] }").unwrap();
            resource.absorb(parse(entry).unwrap());
            let observed = world.observe(&*resource, &[]);
            resource.compare(&Seen { observed: &observed, facts: &world.facts, offline: false })
        };
        let comparison = both(&debian());
        assert!(
            comparison.remarks.iter().any(|remark| matches!(remark, Remark::Warning { text, .. } if text == NO_XEN))
        );
        let steps = comparison.result.unwrap().unwrap().steps;
        assert!(steps.iter().any(|step| step.op.describe() == "install /boot/grub/grub.cfg"));
        let mut after = debian();
        after.apply(&steps);
        let menu = MENU.replace(" quiet", " quiet audit=0");
        let after = after.file_with_mode("/boot/grub/grub.cfg", &menu, 0o444);
        assert!(matches!(both(&after).result, Err(Cannot::Refused(why)) if why.starts_with(NO_XEN)));
        let mut world = debian().file_with_mode("/boot/grub/grub.cfg", XEN_MENU, 0o444);
        world.facts.virt.dom0 = true;
        let info = "nr_cpus                : 8\ntotal_memory           : 65536\nxen_commandline        : placeholder\n";
        let world = world.program(&Probe::once(["xl", "info"]), 0, info);
        let comparison = world.compare(entry);
        assert!(comparison.remarks.iter().any(
            |remark| matches!(remark, Remark::Reboot { attribute, running, .. } if attribute == "xen dom0_mem" && running == "nothing")
        ));
        let (fields, done) = plan_of(comparison).unwrap();
        assert_eq!(fields[0], "xen: [] -> [\"dom0_mem=4G,max:4G\"]");
        assert_eq!(done[0], "write /etc/default/grub.d/99-vprov.cfg");
    }

    #[test]
    fn what_may_not_be_done_is_refused() {
        for (entry, words) in [
            ("kernel_cmdline: { parameters: [\"a;b\"] }", "';'"),
            ("kernel_cmdline: { parameters: [\"a=$b\"] }", "'$'"),
            ("kernel_cmdline: { parameters: [\"a=`b`\"] }", "'`'"),
            ("kernel_cmdline: { parameters: [\"\"] }", "is empty"),
            ("kernel_cmdline: { parameters: [\"hugepages=-1\"] }", "no count of pages"),
            ("kernel_cmdline: { parameters: [transparent_hugepage=sometimes] }", "`madvise`"),
            ("kernel_cmdline: { parameters: [dom0_mem=4G] }", "target: xen"),
            ("kernel_cmdline: { target: xen, parameters: [dom0_mem=10%+1G] }", "1G+10%"),
            ("kernel_cmdline: { parameters: [a], absent: [a] }", "in `absent`"),
            ("kernel_cmdline: {}", "neither"),
            ("kernel_cmdline: { parameters: [a], reserve: much }", "no size"),
        ] {
            let error = parse(entry).err().unwrap_or_default();
            assert!(error.contains(words), "{entry}: {error}");
        }
        let entry = "kernel_cmdline: { parameters: [a=1] }";
        refused(&World::systemd(), entry, "no boot loader that vprov knows");
        let dynamic = debian().file("/etc/default/grub", "GRUB_CMDLINE_LINUX_DEFAULT=\"$(cat /x)\"\n");
        refused(&dynamic, entry, "/etc/default/grub:1");
        let user = debian().path("/boot/grub/grub.cfg", Answer::Denied).plan(entry);
        assert!(matches!(user, Err(Cannot::Unknown(text)) if text.contains("root")));
    }

    #[test]
    fn below_a_root_only_the_files_are_written() {
        let comparison = debian().offline().compare(HUGE);
        assert!(
            comparison
                .remarks
                .iter()
                .any(|remark| matches!(remark, Remark::Warning { text, .. } if text.contains("below the root")))
        );
        let (_, done) = plan_of(comparison).unwrap();
        assert_eq!(done, ["write /etc/default/grub.d/99-vprov.cfg"]);
    }
}
