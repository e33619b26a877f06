//! Files in directories to which others may write: no symbolic link in a file's place is followed,
//! and a new file never opens one that somebody else has put there.
#![allow(
    clippy::disallowed_methods,
    reason = "a door: opens files, and makes those that replace others"
)]

use std::{
    ffi::{OsStr, OsString},
    fs::{self, File, OpenOptions, Permissions},
    io::{self, ErrorKind},
    os::unix::{
        ffi::OsStrExt,
        fs::{OpenOptionsExt, PermissionsExt},
    },
    path::Path,
};

use nix::fcntl::OFlag;
use tempfile::{Builder, NamedTempFile};

/// The length of the random part of a replacement's name, in characters.
const RANDOM_LEN: usize = 8;

/// The end of a replacement's name.
const SUFFIX: &str = ".part";

/// Opens a file, but does not follow a symbolic link.
///
/// # Errors
/// The file cannot be opened, or is a link.
pub fn open(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    options.custom_flags(OFlag::O_NOFOLLOW.bits()).open(path).map_err(|error| {
        let is_link = fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_symlink());
                let refusal = "it is a symbolic link, which is not followed; remove it, or name the file that it leads to";
        if is_link { io::Error::new(error.kind(), refusal) } else { error }
    })
}

/// Creates a hidden file that replaces the one at `path` atomically when `persist` is called. If it
/// is dropped before, it is removed. The umask may remove bits from the mode.
///
/// # Errors
/// The file cannot be created.
pub fn replacement(path: &Path, mode: u32) -> io::Result<NamedTempFile> {
    let mut builder = Builder::new();
    // `O_EXCL`: an existing file is never opened.
    builder
        .prefix(&prefix_for(path))
        .suffix(SUFFIX)
        .rand_bytes(RANDOM_LEN)
        .permissions(Permissions::from_mode(mode))
        .tempfile_in(directory_of(path))
}

/// Removes the replacements of this file that killed programs have left.
///
/// # Errors
/// The directory cannot be read, or a replacement cannot be removed.
pub fn remove_leftovers(path: &Path) -> io::Result<()> {
    let prefix = prefix_for(path);
    for entry in fs::read_dir(directory_of(path))? {
        let entry = entry?;
        if is_replacement(&entry.file_name(), &prefix) {
            match fs::remove_file(entry.path()) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
    }
    Ok(())
}

fn directory_of(path: &Path) -> &Path {
    path.parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

/// Returns the beginning of a replacement's name. A hidden name gets no second dot.
fn prefix_for(path: &Path) -> OsString {
    let name = path.file_name().unwrap_or_default().as_bytes();
    let name = name.strip_prefix(b".").unwrap_or(name);
    OsStr::from_bytes(&[b".", name, b"."].concat()).to_owned()
}

fn is_replacement(name: &OsStr, prefix: &OsStr) -> bool {
    let rest = name.as_bytes().strip_prefix(prefix.as_bytes());
    let random = rest.and_then(|rest| rest.strip_suffix(SUFFIX.as_bytes()));
    random
        .and_then(|random| str::from_utf8(random).ok())
        .is_some_and(is_of_replacement)
}

/// True if a text may be the random part of a replacement's name.
#[must_use]
pub fn is_of_replacement(text: &str) -> bool {
    text.len() == RANDOM_LEN && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use std::{io::Write, os::unix::fs::symlink, path::PathBuf};

    use tempfile::TempDir;

    use super::*;

    fn names_in(directory: &TempDir) -> Vec<String> {
        let names = fs::read_dir(directory.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }

    /// Creates a file that an attacker wants overwritten, and a link to it.
    fn trap(directory: &TempDir) -> (PathBuf, PathBuf) {
        let (victim, link) = (
            directory.path().join("victim"),
            directory.path().join("link"),
        );
        fs::write(&victim, "precious").unwrap();
        symlink(&victim, &link).unwrap();
        (victim, link)
    }

    #[test]
    fn a_link_is_refused_with_a_sentence() {
        let directory = tempfile::tempdir().unwrap();
        let (victim, link) = trap(&directory);
        let dangling = directory.path().join("dangling");
        symlink("nothing", &dangling).unwrap();
        for path in [&link, &dangling] {
            let error = open(OpenOptions::new().append(true).create(true), path).unwrap_err();
            assert!(
                error
                    .to_string()
                    .starts_with("it is a symbolic link, which is not followed; remove it"),
                "{error}"
            );
        }
        assert_eq!(names_in(&directory), ["dangling", "link", "victim"]);
        let missing = open(
            OpenOptions::new().read(true),
            &directory.path().join("missing"),
        )
        .unwrap_err();
        assert_eq!(missing.kind(), ErrorKind::NotFound);
        open(OpenOptions::new().append(true), &victim)
            .unwrap()
            .write_all(b"!")
            .unwrap();
        assert_eq!(fs::read_to_string(victim).unwrap(), "precious!");
    }

    #[test]
    fn a_linked_directory_is_the_operators() {
        let directory = tempfile::tempdir().unwrap();
        let linked = directory.path().join("linked");
        symlink(directory.path(), &linked).unwrap();
        open(
            OpenOptions::new().write(true).create(true).truncate(false),
            &linked.join("file"),
        )
        .unwrap();
        replacement(&linked.join("other"), 0o600)
            .unwrap()
            .persist(linked.join("other"))
            .unwrap();
        assert_eq!(names_in(&directory), ["file", "linked", "other"]);
    }

    #[test]
    fn a_replacement_takes_the_place_of_a_link() {
        let directory = tempfile::tempdir().unwrap();
        let (victim, link) = trap(&directory);
        let mut part = replacement(&link, 0o640).unwrap();
        assert_eq!(
            part.as_file().metadata().unwrap().permissions().mode() & 0o777 & !0o640,
            0
        );
        part.write_all(b"new").unwrap();
        assert_eq!(names_in(&directory).len(), 3);
        part.persist(&link).unwrap();
        assert_eq!(
            (fs::read(&link).unwrap(), fs::read(&victim).unwrap()),
            (b"new".to_vec(), b"precious".to_vec())
        );
        assert!(!fs::symlink_metadata(&link).unwrap().is_symlink());
        drop(replacement(&link, 0o640).unwrap());
        assert_eq!(names_in(&directory), ["link", "victim"]);
    }

    #[test]
    fn leftovers_are_known_and_removed() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["agent.prom", ".state"] {
            let path = directory.path().join(name);
            let left = [replacement(&path, 0o600), replacement(&path, 0o600)]
                .map(|part| part.unwrap().keep().unwrap());
            assert!(
                left.iter()
                    .all(|(_, path)| !path.to_str().unwrap().contains(".."))
            );
        }
        let others = [
            ".agent.prom.12345678.party",
            ".agent.prom.1234567.part",
            ".other.prom.12345678.part",
            "agent.prom",
        ];
        others
            .iter()
            .for_each(|name| fs::write(directory.path().join(name), "").unwrap());
        ["agent.prom", ".state"]
            .iter()
            .for_each(|name| remove_leftovers(&directory.path().join(name)).unwrap());
        assert_eq!(
            names_in(&directory),
            [others[1], others[0], others[2], others[3]]
        );
        assert!(remove_leftovers(&directory.path().join("none/agent.prom")).is_err());
    }
}
