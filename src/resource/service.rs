//! A unit of systemd: whether the next boot starts it, whether it runs, whether anything can start it.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Cannot, Declaration, Disruption, Handle, Links, Memory, Problem, Remark, Resource, Seen};
use crate::{
    host::{
        matcher::{Expectation, Matcher},
        op::{Command, Op, Step, UnderRoot, Undo},
        path::AbsPath,
        probe::Probe,
        read::{Answer, Output, Read, Want},
    },
    os::systemd::{self, Install, LoadState, UnitFileState, UnitState},
};

/// Where an administrator's units are (systemd.unit(5)).
const ETC: &str = "/etc/systemd/system";

/// Where else units are, from high to low, as long as systemd does not run to be asked.
const VENDOR: [&str; 3] = ["/usr/local/lib/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"];

/// Units whose stop or restart guests feel: they end guests, or carry their network or their disks.
const FELT_BY_GUESTS: [&str; 13] = [
    "libvirt-guests.service",
    "xendomains.service",
    "NetworkManager.service",
    "network.service",
    "networking.service",
    "systemd-networkd.service",
    "wicked.service",
    "wickedd.service",
    "openvswitch.service",
    "openvswitch-switch.service",
    "ovs-vswitchd.service",
    "iscsid.service",
    "multipathd.service",
];

/// A unit of systemd. What is not written is not managed, so a `service` with a name alone only restarts when notified.
///
/// `enabled` is about the next boot, `running` about now, and neither implies the other. A unit that cannot be enabled
/// because it has no [Install] section is refused with that explanation: `systemctl enable` would return 0 and change
/// nothing. Below `--root` only `enabled` and `masked` are managed; the rest is left for the boot.
///
/// Removing it from the configuration leaves the unit as it is and plans list it as orphaned; `--prune` brings back whether it was
/// enabled, running and masked before.
///
/// No package is installed: name a unit that is there, or write its file by `file` (systemd then reads it first).
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// The unit; `.service` is added to a name without a suffix.
    pub name: String,
    /// Whether the next boot starts it.
    #[serde(default)]
    pub enabled: Option<bool>,
    /// Whether it runs now.
    #[serde(default)]
    pub running: Option<bool>,
    /// Whether it is a link to `/dev/null`, so that nothing can start it.
    #[serde(default)]
    pub masked: Option<bool>,
    /// What happens when something that notifies it changed. A unit that does not run is left alone.
    #[serde(default)]
    pub on_notify: OnNotify,
    /// A host without the unit is told, not failed.
    #[serde(default)]
    pub optional: bool,
}

/// What a notified unit does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnNotify {
    /// It restarts.
    #[default]
    Restart,
    /// It reads its configuration again; it restarts where it cannot.
    Reload,
    /// Nothing.
    None,
}

/// What is managed of a unit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct State {
    /// Whether systemd knows the unit as its files are.
    #[serde(skip_serializing_if = "Option::is_none")]
    definition: Option<Definition>,
    #[serde(skip_serializing_if = "Option::is_none")]
    masked: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    enabled: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    running: Option<bool>,
}

/// Whether systemd knows a unit as its files are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Definition {
    /// A file of the unit changed, or will by this plan, since systemd read it.
    Stale,
    /// systemd has read it.
    Loaded,
}

/// What a host says of a unit.
struct Unit {
    /// As systemd shows it, or as its planned file will make it.
    file: UnitFileState,
    enabled: bool,
    running: bool,
    stale: bool,
    can_reload: bool,
    load: LoadState,
    /// The real name, where the asked one is an alias.
    alias_of: Option<String>,
    triggered_by: Vec<String>,
    /// Whether systemd, not a planned file, tells of it.
    shown: bool,
}

impl Resource for Service {
    const KIND: &'static str = "service";
    const EXAMPLE: &'static str = "service: { name: libvirtd, enabled: true, running: true }";
    type State = State;

    fn name(&self) -> String {
        self.unit()
    }

    fn check(&self) -> Vec<Problem> {
        let mut problems = vec![];
        if let Err(error) = systemd::unit_name(&self.name) {
            problems.push(Problem::new(&["name"], error.to_string()));
        }
        for (attribute, value) in [("enabled", self.enabled), ("running", self.running)] {
            if self.masked == Some(true) && value == Some(true) {
                let problem = Problem::new(&[attribute], format!("a masked unit cannot be {attribute}"));
                problems.push(problem.help("leave one of both out"));
            }
        }
        problems
    }

    fn links(&self) -> Links {
        let file = AbsPath::new(format!("{ETC}/{}", self.unit())).ok();
        Links { provides: vec![Handle::Unit(self.unit())], needs: file.into_iter().map(Handle::Path).collect() }
    }

    fn reads(&self, seen: &Seen) -> Vec<Read> {
        let mut reads = vec![];
        reads.extend(self.file_in(ETC).map(Read::entry));
        if !seen.offline {
            reads.push(self.probe());
            reads.push(self.drop_ins());
            return reads;
        }
        reads.extend(VENDOR.iter().filter_map(|dir| self.file_in(dir)).map(Read::content));
        reads.extend(install_links());
        if let Some(install) = self.install(seen) {
            let aliases = install.alias.iter().filter_map(|alias| AbsPath::new(format!("{ETC}/{alias}")).ok());
            reads.extend(aliases.map(Read::entry));
        }
        reads
    }

    fn current(&self, seen: &Seen) -> Result<Option<State>, Cannot> {
        let unit = self.find(seen)?;
        let masked = matches!(unit.file, UnitFileState::Masked | UnitFileState::MaskedRuntime);
        let definition = if unit.stale { Definition::Stale } else { Definition::Loaded };
        Ok(Some(State {
            definition: (!seen.offline).then_some(definition),
            masked: self.masked.map(|_| masked),
            enabled: self.enabled.map(|_| unit.enabled),
            running: self.running.filter(|_| !seen.offline).map(|_| unit.running),
        }))
    }

    fn desired(&self, seen: &Seen, current: Option<&State>) -> Result<Option<State>, Cannot> {
        let unit = self.find(seen)?;
        let name = self.unit();
        let masked = matches!(unit.file, UnitFileState::Masked | UnitFileState::MaskedRuntime);
        let wants = |wanted: Option<bool>| wanted == Some(true);
        if masked && self.masked.is_none() && (wants(self.enabled) || wants(self.running)) {
            let way = "say `masked: false` to unmask it";
            return Err(Cannot::Refused(format!("`{name}` is masked, so nothing can start it; {way}")));
        }
        if wants(self.enabled) && !unit.enabled && !masked {
            let alias = unit.alias_of.as_ref().map(|id| format!("it is another name of `{id}`: name that one"));
            let why = alias.or(unit.file.why_not_enableable().map(Into::into));
            if let Some(why) = why {
                return Err(Cannot::Refused(format!("`{name}` cannot be enabled: {why}")));
            }
        }
        if (wants(self.enabled) || wants(self.running)) && matches!(unit.load, LoadState::BadSetting | LoadState::Error)
        {
            let way = format!("`systemd-analyze verify {name}` says where");
            return Err(Cannot::Refused(format!("systemd cannot use the file of `{name}`; {way}")));
        }
        if wants(self.masked)
            && !masked
            && let Some(path) = self.file_in(ETC)
            && matches!(seen.get(&Read::entry(path.clone())), Answer::File { .. })
        {
            let way = "declare it `ensure: absent` first";
            return Err(Cannot::Refused(format!("`{name}` cannot be masked while {path} is a file; {way}")));
        }
        Ok(Some(State {
            definition: current.and_then(|state| state.definition).map(|_| Definition::Loaded),
            masked: self.masked,
            enabled: self.enabled,
            running: self.running.filter(|_| !seen.offline),
        }))
    }

    fn steps(&self, seen: &Seen, from: Option<&State>, to: Option<&State>) -> Result<Vec<Step>, Cannot> {
        let (Some(from), Some(to)) = (from, to) else { return Ok(vec![]) };
        let unit = self.find(seen)?;
        let name = self.unit();
        let mut steps = vec![];
        if from.definition != to.definition {
            let mut step = daemon_reload();
            if unit.shown {
                step = step.after(self.shows("NeedDaemonReload", &["no"]));
            }
            steps.push(step);
        }
        if from.masked != to.masked && to.masked == Some(false) {
            let undo = systemd::mask(None, &name);
            steps.push(self.file_step(systemd::unmask(None, &name), undo, seen, &NOT_MASKED));
        }
        match (from.enabled == to.enabled, to.enabled) {
            (false, Some(true)) => {
                let undo = systemd::disable(None, &name);
                let step = self.file_step(systemd::enable(None, &name), undo, seen, &["enabled"]);
                steps.push(if steps.is_empty() { self.guard_file(step, &unit, seen) } else { step });
            }
            // Below the mask there may be links that enable it, of which systemd does not tell.
            (equal, Some(false)) if !equal || !steps.is_empty() && to.masked != from.masked => {
                let undo = systemd::enable(None, &name);
                let step = self.file_step(systemd::disable(None, &name), undo, seen, &NOT_ENABLED);
                steps.push(if steps.is_empty() { self.guard_file(step, &unit, seen) } else { step });
            }
            _ => {}
        }
        match (from.running == to.running, to.running) {
            (false, Some(true)) => {
                let undo = Command::new(systemd::stop(&name));
                let step = run(Command::new(systemd::start(&name)).timeout(600), Undo::Run(undo));
                steps.push(step.after(self.shows("ActiveState", &["active", "reloading"])));
            }
            (false, Some(false)) => {
                // A unit that was masked while it ran cannot be started again.
                let stays_masked = to.masked != Some(false)
                    && matches!(unit.file, UnitFileState::Masked | UnitFileState::MaskedRuntime);
                let undo = match stays_masked {
                    true => Undo::Irreversible,
                    false => Undo::Run(Command::new(systemd::start(&name))),
                };
                let step = run(Command::new(systemd::stop(&name)).timeout(600), undo);
                steps.push(step.after(self.shows("ActiveState", &["inactive", "failed"])));
            }
            _ => {}
        }
        if from.masked != to.masked && to.masked == Some(true) {
            let undo = systemd::unmask(None, &name);
            steps.push(self.file_step(systemd::mask(None, &name), undo, seen, &["masked"]));
        }
        Ok(steps)
    }

    fn may_become(&self) -> Vec<String> {
        let name = self.unit();
        let wanted = [
            (true, systemd::daemon_reload()),
            (self.masked == Some(false), systemd::unmask(None, &name)),
            (self.enabled == Some(true), systemd::enable(None, &name)),
            (self.enabled == Some(false), systemd::disable(None, &name)),
            (self.running == Some(true), systemd::start(&name)),
            (self.running == Some(false), systemd::stop(&name)),
            (self.masked == Some(true), systemd::mask(None, &name)),
        ];
        wanted
            .into_iter()
            .filter(|(is_wanted, _)| *is_wanted)
            .map(|(_, argv)| format!("run {}", argv.join(" ")))
            .collect()
    }

    fn refresh(&self, seen: &Seen) -> Vec<Step> {
        if seen.offline || self.running == Some(false) || self.masked == Some(true) {
            return vec![];
        }
        // A unit that does not run yet reads the new configuration when it starts.
        let Ok(unit) = self.find(seen) else { return vec![] };
        if !unit.running {
            return vec![];
        }
        let name = self.unit();
        let argv = match self.on_notify {
            OnNotify::None => return vec![],
            OnNotify::Reload if unit.can_reload => systemd::reload(&name),
            OnNotify::Restart | OnNotify::Reload => systemd::restart(&name),
        };
        // That it is active is no evidence, because it is so before; so nothing is announced.
        let command = Command::new(argv).timeout(600);
        vec![run(command.clone(), Undo::Run(command))]
    }

    fn remembers(&self, _: &Seen, from: Option<&State>, to: Option<&State>, _: &[Step]) -> Vec<Memory> {
        let (Some(from), Some(to)) = (from, to) else { return vec![] };
        let attributes =
            |state: &State| [("masked", state.masked), ("enabled", state.enabled), ("running", state.running)];
        let mut left = json!({ "name": self.unit(), "optional": true });
        let mut before = left.clone();
        let mut any = false;
        for ((name, was), (_, is)) in attributes(from).into_iter().zip(attributes(to)) {
            if let Some(is) = is {
                left[name] = json!(is);
            }
            if let Some(was) = was.filter(|_| was != is) {
                before[name] = json!(was);
                any = true;
            }
        }
        let of = |params| Declaration::new(Self::KIND, params);
        let memory =
            Memory { by_attribute: true, ..Memory::new(format!("unit:{}", self.unit()), of(left), of(before)) };
        any.then_some(memory).into_iter().collect()
    }

    fn things(&self, _: &Seen) -> BTreeSet<String> {
        BTreeSet::from([format!("unit:{}", self.unit())])
    }

    fn remarks(&self, seen: &Seen) -> Vec<Remark> {
        let stopped = self.running == Some(false) || self.enabled == Some(false);
        let Ok(unit) = self.find(seen) else { return vec![] };
        if !stopped || unit.triggered_by.is_empty() {
            return vec![];
        }
        let (name, by) = (self.unit(), unit.triggered_by.join("`, `"));
        vec![Remark::warning_with_help(
            format!("`{name}` is started again by `{by}`"),
            format!("declare `{by}` not enabled and not running too, or mask `{name}`"),
        )]
    }

    fn disturbs(&self, from: Option<&State>, to: Option<&State>) -> Disruption {
        let running = |state: Option<&State>| state.and_then(|state| state.running);
        match (running(from), running(to)) {
            (Some(true), Some(false)) if FELT_BY_GUESTS.contains(&self.unit().as_str()) => Disruption::Guests,
            (Some(true), Some(false)) => Disruption::Service,
            _ => Disruption::Nothing,
        }
    }
}

/// The states that a unit file may have once it is not enabled.
const NOT_ENABLED: [&str; 8] =
    ["disabled", "static", "indirect", "generated", "transient", "masked", "masked-runtime", "enabled-runtime"];

/// The states that a unit file may have once it is not masked.
const NOT_MASKED: [&str; 9] =
    ["enabled", "enabled-runtime", "linked", "disabled", "static", "indirect", "generated", "transient", "alias"];

impl Service {
    fn unit(&self) -> String {
        systemd::unit_name(&self.name).unwrap_or_else(|_| self.name.clone())
    }

    fn probe(&self) -> Read {
        Read::Probe(Probe::unit(systemd::PROPERTIES, &self.unit()))
    }

    fn drop_ins(&self) -> Read {
        Read::Glob { pattern: format!("{ETC}/*.d/*.conf"), want: Want::Meta }
    }

    /// Returns the path of the unit's file in a directory; that of the template for an instance.
    fn file_in(&self, dir: &str) -> Option<AbsPath> {
        let unit = self.unit();
        let file = match (unit.split_once('@'), unit.rsplit_once('.')) {
            (Some((template, _)), Some((_, suffix))) => format!("{template}@.{suffix}"),
            _ => unit,
        };
        AbsPath::new(format!("{dir}/{file}")).ok()
    }

    fn find(&self, seen: &Seen) -> Result<Unit, Cannot> {
        if seen.offline { self.find_in_files(seen) } else { self.find_by_systemd(seen) }
    }

    fn find_by_systemd(&self, seen: &Seen) -> Result<Unit, Cannot> {
        let name = self.unit();
        if seen.facts.init != "systemd" {
            return Err(Cannot::Refused(format!("`{name}` needs systemd, which does not run on this host")));
        }
        let output = match seen.get(&self.probe()) {
            Answer::Output(Output { status: 0, stdout, .. }) => stdout.lossy(),
            Answer::Output(output) => {
                let words = output.stderr.lossy().trim().to_owned();
                return Err(Cannot::Refused(format!("`systemctl show` failed: {words}")));
            }
            Answer::Absent => return Err(Cannot::Refused("there is no `systemctl` on this host".into())),
            other => return Err(Cannot::Refused(format!("`systemctl show` answered {}", other.describe()))),
        };
        let shown = systemd::parse_show(&output).map_err(|error| Cannot::Refused(error.to_string()))?;
        let planned = self.planned_file(seen);
        let stale = shown.need_daemon_reload || planned.is_some() || self.has_planned_drop_in(seen);
        match planned.map(systemd::parse_install) {
            // What the plan writes decides what the unit will be, not what the file that it replaces says.
            Some(install) => {
                let file = if shown.file.is_enabled() { UnitFileState::Enabled } else { install.when_disabled() };
                Ok(Unit { file, load: LoadState::Loaded, stale, shown: shown.exists(), ..Unit::of(&name, &shown) })
            }
            None if !shown.exists() => Err(self.missing()),
            None => Ok(Unit { stale, ..Unit::of(&name, &shown) }),
        }
    }

    fn find_in_files(&self, seen: &Seen) -> Result<Unit, Cannot> {
        let masked = self.file_in(ETC).is_some_and(
            |path| matches!(seen.get(&Read::entry(path)), Answer::Link { target, .. } if target == "/dev/null"),
        );
        let install = match self.install(seen) {
            Some(install) => install,
            None if masked => Install::default(),
            None => return Err(self.missing()),
        };
        let name = self.unit();
        let wanted = install_links().iter().any(|read| match seen.get(read) {
            Answer::Paths(paths) => paths.iter().any(|(path, _)| path.file_name() == name),
            _ => false,
        });
        let aliased = install.alias.iter().filter_map(|alias| AbsPath::new(format!("{ETC}/{alias}")).ok());
        let mut aliases = aliased.map(|path| seen.get(&Read::entry(path)));
        let aliased = aliases.any(|answer| matches!(answer, Answer::Link { target, .. } if target.ends_with(&name)));
        let enabled = !masked && (wanted || aliased);
        let file = match (masked, enabled) {
            (true, _) => UnitFileState::Masked,
            (false, true) => UnitFileState::Enabled,
            (false, false) => install.when_disabled(),
        };
        Ok(Unit {
            file,
            enabled,
            running: false,
            stale: false,
            can_reload: false,
            load: LoadState::Loaded,
            alias_of: None,
            triggered_by: vec![],
            shown: false,
        })
    }

    /// Returns the [Install] section of the unit's file as it stands, or will stand, in the files; `None` without a file.
    fn install(&self, seen: &Seen) -> Option<Install> {
        let own = self.file_in(ETC).and_then(|path| seen.get(&Read::entry(path)).content());
        let mut vendor = VENDOR.iter().filter_map(|dir| self.file_in(dir));
        let content = own.or_else(|| vendor.find_map(|path| seen.get(&Read::content(path)).content()));
        content.map(|content| systemd::parse_install(&content.0))
    }

    /// Returns the content of the unit's file if an earlier resource of the plan writes it.
    fn planned_file<'a>(&self, seen: &Seen<'a>) -> Option<&'a [u8]> {
        let answer = seen.get(&Read::entry(self.file_in(ETC)?));
        let planned = answer.meta().is_some_and(|meta| meta.is_planned());
        answer.content().filter(|_| planned).map(|content| content.0.as_slice())
    }

    fn has_planned_drop_in(&self, seen: &Seen) -> bool {
        let Answer::Paths(paths) = seen.get(&self.drop_ins()) else { return false };
        let Ok(directory) = AbsPath::new(format!("{ETC}/{}.d", self.unit())) else { return false };
        paths
            .iter()
            .filter(|(path, _)| path.is_within(&directory))
            .any(|(_, answer)| answer.meta().is_some_and(|meta| meta.is_planned()))
    }

    fn missing(&self) -> Cannot {
        let name = self.unit();
        let text = format!("there is no unit `{name}` on this host");
        if self.optional {
            return Cannot::Unsupported(text);
        }
        let way = match name.as_str() {
            // libvirt, daemons.html: either one daemon or one for each driver.
            "libvirtd.service" => "where libvirt is modular, its daemons are `virtqemud` or `virtxend` and others",
            "virtqemud.service" | "virtxend.service" => "where libvirt is monolithic, its daemon is `libvirtd`",
            _ => "install the package that has it, or declare its file",
        };
        Cannot::Refused(format!("{text}; {way}"))
    }

    /// Announces what systemd will show of the unit.
    fn shows(&self, property: &str, values: &[&str]) -> Expectation {
        let values = values.iter().map(|value| (*value).into()).collect();
        Expectation::new(self.probe(), Matcher::Property { name: property.into(), values })
    }

    fn guard_file(&self, step: Step, unit: &Unit, seen: &Seen) -> Step {
        if seen.offline || !unit.shown {
            return step;
        }
        step.guard(self.shows("UnitFileState", &[unit.file.word()]))
    }

    /// Makes a step that changes links of the unit, also below a root.
    fn file_step(&self, argv: Vec<String>, undo: Vec<String>, seen: &Seen, becomes: &[&str]) -> Step {
        let command = |argv| Command::new::<String>(argv).under_root(UnderRoot::Option("--root".into()));
        let step = run(command(argv), Undo::Run(command(undo)));
        if seen.offline { step } else { step.after(self.shows("UnitFileState", becomes)) }
    }
}

impl Unit {
    fn of(name: &str, shown: &UnitState) -> Self {
        Self {
            file: shown.file.clone(),
            enabled: shown.file.is_enabled(),
            running: shown.is_running(),
            stale: shown.need_daemon_reload,
            can_reload: shown.can_reload,
            load: shown.load.clone(),
            alias_of: (shown.exists() && shown.id != name).then(|| shown.id.clone()),
            triggered_by: shown.triggered_by.clone(),
            shown: true,
        }
    }
}

/// Returns the questions for the links that enable units.
fn install_links() -> [Read; 2] {
    ["wants", "requires"].map(|kind| Read::Glob { pattern: format!("{ETC}/*.{kind}/*"), want: Want::Meta })
}

fn run(command: Command, undo: Undo) -> Step {
    Step::new(Op::Run { command, produces: vec![], undo })
}

/// Makes the step by which systemd reads all units again.
pub(super) fn daemon_reload() -> Step {
    let command = Command::new(systemd::daemon_reload());
    run(command.clone(), Undo::Run(command))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::world::{World, parse, plan_of};

    /// A host with one unit as `systemctl show` tells of it: load, active, file, and whether a reload is needed.
    fn world(unit: &str, load: &str, active: &str, file: &str, need: &str) -> World {
        let text = format!(
            "Id={unit}\nNames={unit}\nLoadState={load}\nActiveState={active}\nSubState=x\nUnitFileState={file}\n\
             NeedDaemonReload={need}\nCanReload=yes\nTriggeredBy=\nResult=success\n"
        );
        World::systemd().program(&Probe::unit(systemd::PROPERTIES, unit), 0, &text)
    }

    fn ssh(active: &str, file: &str) -> World {
        world("ssh.service", "loaded", active, file, "no")
    }

    fn check(world: &World, entry: &str, fields: &[&str], steps: &[&str]) {
        let (found, done) = world.plan(entry).unwrap_or_else(|error| panic!("{entry}: {error:?}"));
        assert_eq!(found, fields, "{entry}");
        let done: Vec<String> = done.iter().map(|step| step.replace("run systemctl --no-ask-password ", "")).collect();
        assert_eq!(done, steps, "{entry}");
    }

    fn refused(world: &World, entry: &str, words: &str) {
        match world.plan(entry) {
            Err(Cannot::Refused(text)) => assert!(text.contains(words), "{text}"),
            other => panic!("{entry}: {other:?}"),
        }
    }

    #[test]
    fn each_attribute_is_brought_there_by_its_own_step() {
        let both = "service: { name: ssh, enabled: true, running: true }";
        check(&ssh("active", "enabled"), both, &[], &[]);
        check(&ssh("active", "disabled"), both, &["enabled: false -> true"], &["enable -- ssh.service"]);
        check(&ssh("failed", "enabled"), both, &["running: false -> true"], &["start -- ssh.service"]);
        let neither = "service: { name: ssh, enabled: false, running: false }";
        check(&ssh("inactive", "disabled"), neither, &[], &[]);
        check(
            &ssh("active", "enabled"),
            neither,
            &["enabled: true -> false", "running: true -> false"],
            &["disable -- ssh.service", "stop -- ssh.service"],
        );
        let masked = "service: { name: ssh, running: false, masked: true }";
        check(
            &ssh("active", "enabled"),
            masked,
            &["masked: false -> true", "running: true -> false"],
            &["stop -- ssh.service", "mask -- ssh.service"],
        );
        let unmasked = "service: { name: ssh, masked: false, enabled: true }";
        check(
            &world("ssh.service", "masked", "inactive", "masked", "no"),
            unmasked,
            &["masked: true -> false", "enabled: false -> true"],
            &["unmask -- ssh.service", "enable -- ssh.service"],
        );
        check(&ssh("active", "enabled"), "service: { name: ssh }", &[], &[]);
        let stale = world("ssh.service", "loaded", "active", "enabled", "yes");
        check(&stale, both, &["definition: \"stale\" -> \"loaded\""], &["daemon-reload"]);
    }

    #[test]
    fn what_cannot_be_is_refused_with_the_reason() {
        let enabled = "service: { name: ssh, enabled: true }";
        refused(&World::default(), enabled, "needs systemd");
        refused(&World::systemd(), enabled, "no `systemctl`");
        refused(&world("ssh.service", "not-found", "inactive", "", "no"), enabled, "no unit `ssh.service`");
        refused(&ssh("active", "static"), enabled, "no [Install] section");
        refused(&ssh("active", "indirect"), enabled, "Also=");
        refused(&ssh("active", "generated"), enabled, "generator");
        refused(&world("ssh.service", "masked", "inactive", "masked", "no"), enabled, "`masked: false`");
        refused(&world("ssh.service", "bad-setting", "inactive", "disabled", "no"), enabled, "cannot use the file");
        let alias = ssh("active", "disabled");
        let text = "Id=ssh.service\nLoadState=loaded\nActiveState=active\nUnitFileState=disabled\n";
        let alias = alias.program(&Probe::unit(systemd::PROPERTIES, "sshd.service"), 0, text);
        refused(&alias, "service: { name: sshd, enabled: true }", "another name of `ssh.service`");
        let file = ssh("inactive", "disabled").file("/etc/systemd/system/ssh.service", "[Service]\n");
        refused(&file, "service: { name: ssh, masked: true }", "cannot be masked");
        let optional = "service: { name: ssh, enabled: true, optional: true }";
        let missing = world("ssh.service", "not-found", "inactive", "", "no").plan(optional);
        assert!(matches!(missing, Err(Cannot::Unsupported(_))));
    }

    #[test]
    fn bad_input_is_refused_before_any_host() {
        for (entry, words) in [
            ("service: { name: \"a b\" }", "no name of a unit"),
            ("service: { name: x@ }", "template"),
            ("service: { name: x, masked: true, enabled: true }", "masked unit cannot be enabled"),
            ("service: { name: x, masked: true, running: true }", "masked unit cannot be running"),
            ("service: { name: x, on_notify: kill }", "kill"),
            ("service: { name: x, state: started }", "state"),
        ] {
            let error = parse(entry).err().unwrap_or_default();
            assert!(error.contains(words), "{entry}: {error}");
        }
    }

    #[test]
    fn a_planned_unit_is_judged_by_its_planned_bytes() {
        let world = world("hugepages.mount", "not-found", "inactive", "", "no");
        let path = AbsPath::known("/etc/systemd/system/hugepages.mount");
        let planned = |text: &str| {
            let owner = crate::host::op::Owner::root(0o644);
            [Step::new(Op::Write { path: path.clone(), content: text.into(), owner })]
        };
        let entry = "service: { name: hugepages.mount, enabled: true, running: true }";
        let steps = planned("[Mount]\nWhat=x\n[Install]\nWantedBy=sysinit.target\n");
        let (_, done) = plan_of(world.compare_after(&steps, entry)).unwrap();
        assert_eq!(done.len(), 3);
        assert!(done[0].ends_with("daemon-reload") && done[1].contains("enable") && done[2].contains("start"));
        match plan_of(world.compare_after(&planned("[Mount]\nWhat=x\n"), entry)) {
            Err(Cannot::Refused(text)) => assert!(text.contains("[Install]"), "{text}"),
            other => panic!("{other:?}"),
        }
        let drop_in = AbsPath::known("/etc/systemd/system/ssh.service.d/a.conf");
        let owner = crate::host::op::Owner::root(0o644);
        let steps = [Step::new(Op::Write { path: drop_in, content: "[Service]\n".into(), owner })];
        let (fields, _) = plan_of(ssh("active", "enabled").compare_after(&steps, "service: { name: ssh }")).unwrap();
        assert_eq!(fields, ["definition: \"stale\" -> \"loaded\""]);
    }

    #[test]
    fn below_a_root_the_links_tell() {
        let root = World::default().offline();
        let unit = "[Unit]\n[Install]\nWantedBy=multi-user.target\nAlias=sshd.service\n";
        let root = root.file("/lib/systemd/system/ssh.service", unit);
        let entry = "service: { name: ssh, enabled: true, running: true }";
        check(&root, entry, &["enabled: false -> true"], &["enable -- ssh.service"]);
        let wanted = "/etc/systemd/system/multi-user.target.wants/ssh.service";
        check(&root.clone().link(wanted, "/lib/systemd/system/ssh.service"), entry, &[], &[]);
        let aliased = root.clone().link("/etc/systemd/system/sshd.service", "/lib/systemd/system/ssh.service");
        check(&aliased, entry, &[], &[]);
        let masked = root.clone().link("/etc/systemd/system/ssh.service", "/dev/null");
        refused(&masked, entry, "masked");
        check(&masked, "service: { name: ssh, masked: true }", &[], &[]);
        check(&root, "service: { name: ssh, masked: true }", &["masked: false -> true"], &["mask -- ssh.service"]);
        refused(&root, "service: { name: nfs-server, enabled: true }", "no unit");
        refused(
            &root.file("/usr/lib/systemd/system/a.service", "[Service]\n"),
            "service: { name: a, enabled: true }",
            "Install",
        );
    }

    #[test]
    fn only_what_runs_is_restarted() {
        let entry = "service: { name: ssh }";
        assert_eq!(ssh("active", "enabled").refresh(entry), ["run systemctl --no-ask-password restart -- ssh.service"]);
        assert_eq!(ssh("inactive", "enabled").refresh(entry), Vec::<String>::new());
        assert_eq!(ssh("active", "enabled").offline().refresh(entry), Vec::<String>::new());
        let reload = "service: { name: ssh, on_notify: reload }";
        assert_eq!(ssh("active", "enabled").refresh(reload), ["run systemctl --no-ask-password reload -- ssh.service"]);
        assert_eq!(ssh("active", "enabled").refresh("service: { name: ssh, on_notify: none }"), Vec::<String>::new());
    }

    #[test]
    fn what_guests_feel_is_said() {
        let stop = |unit: &str| {
            let unit = format!("{unit}.service");
            let world = world(&unit, "loaded", "active", "enabled", "no");
            let difference = world.compare(&format!("service: {{ name: {unit}, running: false }}")).result.unwrap();
            difference.unwrap().disturbs
        };
        assert_eq!(stop("libvirtd"), Disruption::Service);
        assert_eq!(stop("libvirt-guests"), Disruption::Guests);
    }
}
