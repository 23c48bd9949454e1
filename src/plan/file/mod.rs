//! Saved plans: a file that holds all that apply needs, so that what was reviewed is what is done.
//!
//! A file is a line that says what it is ([`header`]) and one JSON document: who made it, the digests of the sources, the
//! inventory without what hosts should be, and for each host its plan and the declarations that it was made from, so that
//! apply can look once more without the sources. What hosts have in common is stored once ([`pack`]).

pub mod header;
pub mod pack;
pub mod disk;
pub mod sign;

use std::{collections::HashMap, io};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{HostPlan, HostResult};
use crate::{
    config::{SourceDigest, data::Declaration},
    plan::ResourcePlan,
};
use pack::{Packer, Pool};

/// The format of a plan file.
pub const FORMAT: &str = "vprov.plan-file/1";

/// Why a file is not taken as a plan.
#[derive(Debug, thiserror::Error)]
pub enum PlanFileError {
    /// The system did not give it.
    #[error("cannot read `{path}`: {error}")]
    Unreadable {
        /// The file.
        path: String,
        /// What the system said.
        error: io::Error,
    },
    /// It is larger than any plan.
    #[error("it is larger than {} MiB", disk::MAX_BYTES >> 20)]
    TooLarge,
    /// It is something else.
    #[error("it is no plan; `vprov plan -o FILE` saves one")]
    NoPlan,
    /// It is what `plan --json` writes.
    #[error(
        "it is what `plan --json` writes, which is for reading; `vprov plan -o FILE` saves a plan that can be applied"
    )]
    Report,
    /// It is of another format.
    #[error("it is of the format `{found}`, and vprov {} reads `{FORMAT}`; plan anew", env!("CARGO_PKG_VERSION"))]
    Format {
        /// Its format.
        found: String,
    },
    /// It was written by another vprov.
    #[error("it was made by vprov {found}, and this is vprov {}, which may do other things; plan anew", env!("CARGO_PKG_VERSION"))]
    Version {
        /// The version that made it.
        found: String,
    },
    /// The end is missing.
    #[error("it is cut short; plan anew")]
    Cut,
    /// It is not what vprov wrote.
    #[error("it was edited or damaged after it was saved; plan anew")]
    Edited,
    /// Its content makes no sense.
    #[error("it makes no sense: {0}; plan anew")]
    Senseless(String),
}

/// What a plan file says beside the plans.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct About {
    /// When it was made, in seconds since 1970 (UTC).
    pub at: u64,
    /// Who made it, and on which machine.
    pub by: String,
    /// The files it was made from; those embedded in vprov go with its version.
    pub sources: Vec<SourceDigest>,
    /// The one host is this directory (`--root`).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub root: Option<String>,
    /// What fell short is tried again before the next boot (`--retry-short`).
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub retry_short: bool,
    /// The inventory without what hosts should be, as [`crate::config::data::to_data`] writes it.
    pub inventory: Value,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    about: About,
    pool: Vec<Value>,
    hosts: Vec<Host>,
}

/// A host; its plan and declarations are packed.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Host {
    host: String,
    result: Value,
    declared: Value,
}

/// A plan file in the making.
#[derive(Debug, Default)]
pub struct Draft {
    packer: Packer,
    hosts: Vec<String>,
}

impl Draft {
    /// Adds a host with its plan and what was declared for it. What only shows secrets, and does not act, is left out.
    pub fn add(&mut self, plan: &HostPlan, declared: &[Declaration]) {
        let mut result = plan.result.clone();
        if let HostResult::Planned(planned) = &mut result {
            planned.resources.iter_mut().for_each(ResourcePlan::withhold);
        }
        let data = |value: Result<Value, serde_json::Error>| value.expect("plans are plain data with text keys");
        let host = json!({
            "host": plan.host,
            "result": self.packer.pack(data(serde_json::to_value(&result))),
            "declared": self.packer.pack(data(serde_json::to_value(declared))),
        });
        self.hosts.push(host.to_string());
    }

    /// Returns the bytes of the file.
    #[must_use]
    pub fn finish(self, about: &About) -> Vec<u8> {
        let about = serde_json::to_string(about).expect("plain data");
        let body = format!(
            "{{\"about\":{about},\n\"pool\":[\n{}\n],\n\"hosts\":[\n{}\n]}}\n",
            self.packer.pool.join(",\n"),
            self.hosts.join(",\n")
        );
        header::with_header(&body)
    }
}

/// A plan file that was read.
#[derive(Debug)]
pub struct PlanFile {
    /// The version of vprov that made it.
    pub vprov: String,
    /// What it says beside the plans.
    pub about: About,
    pool: Pool,
    hosts: Vec<Host>,
    places: HashMap<String, usize>,
}

impl PlanFile {
    /// Reads the bytes of a file.
    ///
    /// # Errors
    /// Why they are no plan, or not the one that was saved.
    pub fn parse(bytes: &[u8]) -> Result<Self, PlanFileError> {
        let (header, body) = header::split(bytes)?;
        let is_other = header.vprov != env!("CARGO_PKG_VERSION");
        let body: Body = serde_json::from_slice(body).map_err(|error| {
            if is_other {
                PlanFileError::Version { found: header.vprov.clone() }
            } else {
                PlanFileError::Senseless(error.to_string())
            }
        })?;
        let pool = Pool::new(body.pool).map_err(PlanFileError::Senseless)?;
        let places: HashMap<String, usize> =
            body.hosts.iter().enumerate().map(|(at, host)| (host.host.clone(), at)).collect();
        if places.len() < body.hosts.len() {
            return Err(PlanFileError::Senseless("a host stands in it twice".into()));
        }
        Ok(Self { vprov: header.vprov, about: body.about, pool, hosts: body.hosts, places })
    }

    /// Says that another vprov made it, which may do other things than this one.
    ///
    /// # Errors
    /// [`PlanFileError::Version`].
    pub fn check_version(&self) -> Result<(), PlanFileError> {
        if self.vprov == env!("CARGO_PKG_VERSION") {
            return Ok(());
        }
        Err(PlanFileError::Version { found: self.vprov.clone() })
    }

    /// Returns the plans in the order of the hosts.
    ///
    /// # Errors
    /// What is no plan.
    pub fn plans(&self) -> Result<Vec<HostPlan>, PlanFileError> {
        let one = |host: &Host| Ok(HostPlan { host: host.host.clone(), result: self.value(&host.result, &host.host)? });
        self.hosts.par_iter().map(one).collect()
    }

    /// Tells whether a host is in the file.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.places.contains_key(name)
    }

    /// Returns what was declared for a host.
    ///
    /// # Errors
    /// The host is not in the file, or what is there is no declaration.
    pub fn declared(&self, name: &str) -> Result<Vec<Declaration>, PlanFileError> {
        let host = self.places.get(name).and_then(|at| self.hosts.get(*at));
        let host = host.ok_or_else(|| PlanFileError::Senseless(format!("there is no host `{name}` in it")))?;
        self.value(&host.declared, name)
    }

    fn value<T: serde::de::DeserializeOwned>(&self, packed: &Value, host: &str) -> Result<T, PlanFileError> {
        let wrong = |error: String| PlanFileError::Senseless(format!("{host}: {error}"));
        serde_json::from_value(self.pool.unpack(packed).map_err(wrong)?).map_err(|error| wrong(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        catalog,
        config::{data, declared::entries},
        diag::SourceMap,
        facts::Facts,
        graph::Graph,
        host::fake::{FakeHost, World},
        plan::{
            Verdict,
            host::{Circumstances, plan},
        },
    };

    const TEXT: &str = "- file: {path: /etc/app, content: \"new\\n\"}\n- sysctl: {name: vm.swappiness, value: 35}\n\
                        - file: {path: /etc/key, content: \"hunter2\\n\", mode: \"0600\"}\n";

    fn planned() -> (HostPlan, Vec<Declaration>) {
        let sources = SourceMap::new();
        let compile = |_: &Facts| {
            let catalog = catalog::build(entries(TEXT, &sources))?;
            let graph = Graph::build(&catalog)?;
            Ok((catalog, graph))
        };
        let mut world = World::new();
        world.file("/etc/app", "old\n");
        let planned = plan(&mut FakeHost::new(world), &compile, Circumstances::default(), &mut |_| ()).unwrap();
        let plan = HostPlan { host: "kvm0001".into(), result: HostResult::Planned(planned) };
        (plan, data::declarations(entries(TEXT, &sources)))
    }

    #[test]
    fn what_hosts_have_in_common_is_stored_once() {
        let (one, declared) = planned();
        let file_of = |hosts: usize| {
            let mut draft = Draft::default();
            for at in 1..=hosts {
                let mut plan = one.clone();
                plan.host = format!("kvm{at:05}");
                let HostResult::Planned(planned) = &mut plan.result else { panic!("{plan:?}") };
                planned.facts.hostname = plan.host.clone();
                planned.facts.boot.id = format!("6f6b5f0c-{at:04x}-4d4e-8f4e-2d2f1f0f{at:04x}");
                draft.add(&plan, &declared);
            }
            draft.finish(&About::default())
        };
        let (few, many) = (file_of(100), file_of(10_000));
        let each = (many.len() - few.len()) / 9_900;
        assert!(each < 1_500, "{each} bytes for each host more");
        assert_eq!(String::from_utf8(many.clone()).unwrap().matches("hunter2").count(), 2, "operation and declaration");
        let file = PlanFile::parse(&many).unwrap();
        assert!(file.has("kvm10000") && !file.has("kvm10001"));
        assert_eq!(file.declared("kvm10000").unwrap(), declared);
        let plans = PlanFile::parse(&few).unwrap().plans().unwrap();
        assert_eq!((plans.len(), plans[99].host.as_str()), (100, "kvm00100"));
    }

    #[test]
    fn what_only_shows_a_secret_is_left_out() {
        let (mut plan, declared) = planned();
        let HostResult::Planned(planned) = &mut plan.result else { panic!("{plan:?}") };
        let secret = planned.resources.iter_mut().find(|one| one.sensitive).expect("a file of mode 0600 is sensitive");
        let Verdict::Change(change) = &mut secret.verdict else { panic!("{secret:?}") };
        change.files[0].before = Some("the old word\n".into());
        let mut draft = Draft::default();
        draft.add(&plan, &declared);
        let text = String::from_utf8(draft.finish(&About::default())).unwrap();
        assert!(!text.contains("the old word") && text.contains("hunter2"), "{text}");
    }

    #[test]
    fn two_plans_of_one_host_are_refused() {
        let (plan, declared) = planned();
        let mut draft = Draft::default();
        draft.add(&plan, &declared);
        draft.add(&plan, &declared);
        let error = PlanFile::parse(&draft.finish(&About::default())).unwrap_err().to_string();
        assert_eq!(error, "it makes no sense: a host stands in it twice; plan anew");
    }
}
