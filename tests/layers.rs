//! The shape of the source: a module imports only from those above it in `src/lib.rs`, every file says what it is for, and the
//! tests that docs/reliability.md names are there.
#![expect(clippy::disallowed_methods, reason = "this test reads the source")]

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The modules in reading order.
fn modules() -> Vec<String> {
    // What only tests see has its place too: below everything that it tests.
    let text = fs::read_to_string("src/lib.rs").expect("src/lib.rs is text");
    text.lines()
        .filter_map(|line| line.strip_prefix("pub mod ").or_else(|| line.strip_prefix("mod ")))
        .filter_map(|rest| rest.trim_end().strip_suffix(';'))
        .map(str::to_owned)
        .collect()
}

/// Every Rust file below a folder, in order.
fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("the folder can be read") {
        let path = entry.expect("the folder can be read").path();
        if path.is_dir() {
            found.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// A file without comments and without what only tests see.
fn source(path: &Path) -> String {
    without_tests(&fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
}

/// Relies on rustfmt: an item ends at a line that starts no deeper than it does.
fn without_tests(text: &str) -> String {
    let mut kept = String::new();
    let mut lines = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    while let Some(line) = lines.next() {
        if line.trim_start() != "#[cfg(test)]" {
            kept.push_str(line);
            kept.push('\n');
            continue;
        }
        let indent = &line[..line.len() - line.trim_start().len()];
        let end = [format!("{indent}}}"), format!("{indent}}};"), format!("{indent});")];
        for line in lines.by_ref() {
            let whole_item = line.starts_with(indent)
                && !line[indent.len()..].starts_with([' ', '#', '}'])
                && (line.ends_with(';') || line.ends_with('}'));
            if whole_item || end.iter().any(|end| line == end) {
                break;
            }
        }
    }
    kept
}

/// The names right after `crate::`, groups in braces included.
fn imports(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    for (at, _) in text.match_indices("crate::") {
        if text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let rest = &text[at + "crate::".len()..];
        let Some(group) = rest.strip_prefix('{') else {
            names.push(identifier(rest).to_owned());
            continue;
        };
        let mut depth = 0;
        let mut expects_name = true;
        for (at, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => expects_name = true,
                c if c.is_whitespace() => {}
                _ if depth == 0 && expects_name => {
                    names.push(identifier(&group[at..]).to_owned());
                    expects_name = false;
                }
                _ => {}
            }
        }
    }
    names
}

fn identifier(text: &str) -> &str {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default()
}

#[test]
fn a_module_imports_only_from_those_above_it() {
    let modules = modules();
    assert!(!modules.is_empty());
    let mut wrong = Vec::new();
    for (place, module) in modules.iter().enumerate() {
        let folder = Path::new("src").join(module);
        let mut files = if folder.is_dir() { rust_files(&folder) } else { Vec::new() };
        files.extend(Some(folder.with_extension("rs")).filter(|file| file.is_file()));
        // `#[cfg(test)] mod tests;` in a file of its own.
        files.retain(|file| !file.ends_with("tests.rs"));
        assert!(!files.is_empty(), "src/lib.rs names {module}, which has no file");
        for file in files {
            for name in imports(&source(&file)) {
                match modules.iter().position(|other| *other == name) {
                    Some(other) if other <= place => {}
                    Some(_) => {
                        wrong.push(format!("{} imports `{name}`, which stands below `{module}`", file.display()))
                    }
                    None => wrong.push(format!("{} imports `crate::{name}`, which is no module", file.display())),
                }
            }
        }
    }
    wrong.dedup();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_file_is_reachable_says_what_it_is_for_and_has_a_name_that_tells() {
    let modules = modules();
    for file in rust_files(Path::new("src")).into_iter().chain(rust_files(Path::new("tests"))) {
        let text = fs::read_to_string(&file).expect("a source file is text");
        assert!(text.starts_with("//! "), "{} does not begin with what it is for", file.display());
        for name in file.components().filter_map(|part| part.as_os_str().to_str()) {
            let stem = name.trim_end_matches(".rs");
            assert!(
                !["util", "utils", "common", "helper", "helpers", "manager", "misc"].contains(&stem),
                "{}: `{stem}` names no subject",
                file.display()
            );
        }
        if let Ok(inner) = file.strip_prefix("src") {
            let first = inner.components().next().expect("a file has a name").as_os_str().to_string_lossy();
            let module = first.trim_end_matches(".rs");
            assert!(
                ["lib", "main"].contains(&module) || modules.iter().any(|name| name == module),
                "src/lib.rs does not name {module}"
            );
        }
    }
}

#[test]
fn imports_are_found_and_those_of_tests_are_not() {
    let check = |text: &str, expected: &[&str]| assert_eq!(imports(&without_tests(text)), expected, "{text}");
    check("use crate::host::Path;\n", &["host"]);
    check(
        "use crate::{\n    diag::{Span, at},\n    host,\n};\nfn f() { crate::plan::g() }\n",
        &["diag", "host", "plan"],
    );
    check("/// See [`crate::plan`].\nuse openssh_crate::x;\n", &[]);
    check("#[cfg(test)]\nmod tests {\n    use crate::cli;\n}\nuse crate::host;\n", &["host"]);
    check("#[cfg(test)]\nmod fake;\nuse crate::host;\n", &["host"]);
    check(
        "impl A {\n    #[cfg(test)]\n    fn f() {\n        crate::cli::f()\n    }\n    fn g(x: crate::host::X) {}\n}\n",
        &["host"],
    );
}

#[test]
fn the_tests_that_the_promises_name_are_there() {
    let mut source = String::new();
    for file in ["src", "tests"].iter().flat_map(|folder| rust_files(Path::new(folder))) {
        source += &fs::read_to_string(file).expect("source is text");
    }
    let text = fs::read_to_string("docs/reliability.md").expect("the page is text");
    let is_test = |name: &&str| {
        name.matches('_').count() > 2
            && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "_…".contains(c))
    };
    let named: Vec<&str> = text.split('`').skip(1).step_by(2).filter(is_test).collect();
    assert!(named.len() > 60, "the page names its tests");
    let gone: Vec<&&str> =
        named.iter().filter(|name| !source.contains(&format!("fn {}", name.trim_end_matches('…')))).collect();
    assert!(gone.is_empty(), "no such tests: {gone:?}");
}
