//! The house has floors: a file may use only the floors below its own.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a test"
)]

use std::fs;
use std::path::{Path, PathBuf};

/// Bottom first.
const FLOORS: [&str; 3] = ["base", "version", "placement"];

fn rust_files(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

fn floor(name: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| *floor == name)
}

/// The upward imports of a source text that stands on `own`.
fn upward(own: usize, text: &str) -> Vec<String> {
    let code = text.split("#[cfg(test)]").next().unwrap_or("");
    let mut found = Vec::new();
    for line in code.lines().filter(|line| !line.trim_start().starts_with("//")) {
        for (at, _) in line.match_indices("crate::") {
            let used: String =
                line[at + 7..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            match floor(&used) {
                Some(used_floor) if used_floor > own => found.push(line.trim().to_owned()),
                // The crate root re-exports the top floor.
                None if used.chars().next().is_some_and(char::is_uppercase) => {
                    found.push(line.trim().to_owned())
                }
                _ => {}
            }
        }
    }
    found
}

#[test]
fn no_file_imports_from_a_higher_floor() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    rust_files(&source, &mut files);
    assert!(files.len() > 2, "the test looks at the sources");
    let mut wrong = Vec::new();
    for file in files {
        let relative = file.strip_prefix(&source).unwrap();
        let first =
            relative.components().next().unwrap().as_os_str().to_string_lossy().into_owned();
        let Some(own) = floor(&first) else {
            assert_eq!(first, "lib.rs", "{} stands on no floor", relative.display());
            continue;
        };
        let text = fs::read_to_string(&file).unwrap();
        wrong.extend(
            upward(own, &text).into_iter().map(|line| format!("{}: {line}", relative.display())),
        );
    }
    assert!(wrong.is_empty(), "imports from a higher floor:\n{}", wrong.join("\n"));
}

#[test]
fn an_upward_import_would_be_seen() {
    let own = floor("version").unwrap();
    assert_eq!(upward(own, "use crate::placement::Placement;\nuse crate::base::ids;").len(), 1);
    assert_eq!(upward(own, "let x = crate::placement::of(n);").len(), 1);
    assert!(upward(own, "// crate::placement is above us\nuse crate::base::token;").is_empty());
}
