//! `vprov schema`.
#![expect(clippy::disallowed_methods, reason = "the schemas are written where the user says")]

use std::fs;

use super::{
    Terminal, Wrong,
    args::{Schema, SchemaFile},
    exit::Exit,
    session::library_options,
};
use crate::{
    config::{load_library, module::Class},
    diag::SourceMap,
    report::json::pretty,
    schema,
};

/// Writes one schema, or all of them into a directory.
pub fn run(args: &Schema, terminal: &Terminal) -> Result<Exit, Wrong> {
    let sources = SourceMap::new();
    let library =
        load_library(&library_options(&args.modules), &sources).map_err(|found| terminal.refuse(&found, &sources))?;
    let modules: Vec<_> =
        library.all().iter().map(|module| &**module).filter(|module| module.class == Class::Module).collect();
    if let Some(directory) = &args.out {
        fs::create_dir_all(directory).map_err(|error| Wrong::Words(format!("{}: {error}", directory.display())))?;
        for (name, make) in schema::FILES {
            let path = directory.join(name);
            fs::write(&path, pretty(&make(&modules)))
                .map_err(|error| Wrong::Words(format!("{}: {error}", path.display())))?;
        }
    }
    match args.file {
        Some(SchemaFile::Hosts) => terminal.report(&pretty(&schema::hosts(&modules))),
        Some(SchemaFile::Playbook) => terminal.report(&pretty(&schema::playbook(&modules))),
        Some(SchemaFile::Module) => terminal.report(&pretty(&schema::module(&modules))),
        None => {}
    }
    Ok(Exit::Clean)
}
