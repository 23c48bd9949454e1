//! [`FakeHost`]: a host in memory, for the laws, benches and simulation.
//!
//! It shares only types with the executor and is checked against it in a temporary root. It models what makes hosts hard:
//! values that the kernel clamps, refuses or gives only in part, values that couple, services that run with the
//! configuration of their last start, and a cut at any point. Its deliberate [`Defect`]s show that the laws notice them.

mod apply;
mod systemd;
mod world;

use std::{collections::BTreeMap, sync::Arc};

pub use self::{
    systemd::Unit,
    world::{Live, Node, World, grub_mkconfig},
};
use super::{
    Host, HostError,
    bytes::Bytes,
    glob::{Pattern, component_matches},
    op::Command,
    path::AbsPath,
    probe::Probe,
    read::{Answer, Output, Read},
    run::{Applied, RolledBack, Run, RunId, StepEvent},
};

/// A program: it gets the world and its arguments (its own name first) and may change the world.
pub type Program = Arc<dyn Fn(&mut World, &[String]) -> Output + Send + Sync>;

/// A mistake that an executor could make; each has a law that fails by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Defect {
    /// Guards are not looked at.
    NoGuard,
    /// The last intent is not on the disk when the operation acts; a cut loses it.
    NoFsync,
    /// What a write makes due is not recorded.
    LostNotify,
    /// Announced results are not looked at after an operation.
    SkippedReadBack,
}

/// A host in memory.
#[derive(Clone, Default)]
pub struct FakeHost {
    /// Its files, values and units.
    pub world: World,
    /// What it gets wrong.
    pub defect: Option<Defect>,
    /// After so many points (four an operation) the power is cut; then every call fails until this is taken away.
    pub cut_after: Option<usize>,
    /// Who holds the lock, if anybody does.
    pub lock: Option<String>,
    points: usize,
    programs: BTreeMap<String, Program>,
    journals: BTreeMap<RunId, Vec<apply::Entry>>,
}

impl FakeHost {
    /// Makes a host of a world.
    #[must_use]
    pub fn new(world: World) -> Self {
        Self { world, ..Self::default() }
    }

    /// Installs a program.
    #[must_use]
    pub fn with_program(
        mut self,
        name: &str,
        program: impl Fn(&mut World, &[String]) -> Output + Send + Sync + 'static,
    ) -> Self {
        self.programs.insert(name.into(), Arc::new(program));
        self
    }

    /// Returns how many points a run could have been cut at so far.
    #[must_use]
    pub fn points(&self) -> usize {
        self.points
    }

    /// Runs a program as a person on the host would; `None` if there is none of that name.
    pub fn run_program(&mut self, argv: &[String]) -> Option<Output> {
        let mut world = std::mem::take(&mut self.world);
        let output = self.run_on(&mut world, argv);
        self.world = world;
        output
    }

    /// Ends a cut: the host boots again. Files are as they were stored.
    pub fn power_on(&mut self) {
        self.cut_after = None;
        self.points = 0;
    }

    fn is_cut(&self) -> bool {
        self.cut_after.is_some_and(|after| self.points >= after)
    }

    /// Passes one point; `Err` if the power is gone.
    fn point(&mut self) -> Result<(), HostError> {
        if self.is_cut() {
            return Err(HostError::Unreachable("cut".into()));
        }
        self.points += 1;
        Ok(())
    }

    /// Runs a program on a world; `None` if there is none of that name.
    fn run_on(&self, world: &mut World, argv: &[String]) -> Option<Output> {
        let name = argv.first()?;
        match self.programs.get(name) {
            Some(program) => Some(program(world, argv)),
            None if name == "systemctl" && world.has_systemd => Some(systemd::systemctl(world, argv)),
            None => None,
        }
    }

    fn run(&mut self, command: &Command, staged: Option<&AbsPath>) -> Result<Bytes, String> {
        let argv: Vec<String> = command
            .argv
            .iter()
            .map(|word| match staged {
                Some(path) if word == "{}" => path.to_string(),
                _ => word.clone(),
            })
            .collect();
        match self.run_program(&argv) {
            None => Err(format!("there is no program `{}`", argv.first().map_or("", String::as_str))),
            Some(Output { status: 0, stdout, .. }) => Ok(stdout),
            Some(output) => {
                let words = output.stderr.lossy().trim().to_string();
                Err(format!("`{}` ended with status {}: {words}", argv.join(" "), output.status))
            }
        }
    }

    fn answer(&self, read: &Read) -> Answer {
        match read {
            Read::Path { path, follow, want } => self.world.answer(path, *follow, *want),
            Read::Glob { pattern, want } => match Pattern::new(pattern) {
                None => Answer::Failed(format!("`{pattern}` is no absolute pattern")),
                Some(glob) => {
                    let paths = self.expand(&glob);
                    Answer::Paths(
                        paths
                            .into_iter()
                            .map(|path| {
                                let answer = self.world.answer(&path, true, *want);
                                (path, answer)
                            })
                            .collect(),
                    )
                }
            },
            Read::Probe(probe) if !probe.is_allowed() => Answer::Failed("it is no program that changes nothing".into()),
            Read::Probe(Probe::Once { .. } | Probe::Each { .. } | Probe::User { .. }) => {
                let Read::Probe(probe) = read else { return Answer::Absent };
                // On a copy, so that a probe cannot act whatever it does.
                let output = self.run_on(&mut self.world.clone(), &probe.argv());
                output.map_or(Answer::Absent, Answer::Output)
            }
        }
    }

    fn expand(&self, glob: &Pattern) -> Vec<AbsPath> {
        let mut found = vec![AbsPath::known("/")];
        for component in glob.components() {
            let mut next = vec![];
            for directory in found {
                if Pattern::is_wild(component) {
                    let Some(real) = self.world.resolve(&directory, true) else { continue };
                    let names = self.world.names_in(&real);
                    let fitting = names.iter().filter(|name| component_matches(component, name));
                    next.extend(fitting.filter_map(|name| directory.join(name).ok()));
                } else {
                    next.extend(directory.join(component));
                }
            }
            found = next;
        }
        found.retain(|path| self.world.answer(path, false, super::read::Want::Meta) != Answer::Absent);
        found.sort();
        found
    }
}

impl Host for FakeHost {
    fn read(&mut self, reads: &[Read]) -> Result<Vec<Answer>, HostError> {
        if self.is_cut() {
            return Err(HostError::Unreachable("cut".into()));
        }
        Ok(reads.iter().map(|read| self.answer(read)).collect())
    }

    fn apply(&mut self, run: &Run, on: &mut dyn FnMut(&StepEvent)) -> Result<Applied, HostError> {
        let applied = self.perform(run, on);
        if applied.is_err() && self.defect == Some(Defect::NoFsync) {
            // The operation reached the disk, its intent did not.
            if let Some(entries) = self.journals.get_mut(&run.id) {
                entries.pop();
            }
        }
        applied
    }

    fn rollback(&mut self, run: &RunId) -> Result<RolledBack, HostError> {
        self.take_back(run)
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the comparison needs real files")]
mod tests;
