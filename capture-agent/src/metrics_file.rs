//! The file that tells node_exporter how it goes.
#![allow(clippy::disallowed_methods, reason = "a door: the metrics file")]

use std::{
    ffi::OsString,
    fs::{self, OpenOptions, Permissions},
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
};

/// Anybody may read counters: node_exporter is another user.
const METRICS_MODE: u32 = 0o644;

/// Replaces a file by one with this text, as a whole.
pub(crate) fn replace(path: &Path, text: &str) -> io::Result<()> {
    let mut part_name = OsString::from(".");
    part_name.push(path.file_name().unwrap_or_default());
    part_name.push(".part");
    let part = path.with_file_name(part_name);
    let in_file = |error: io::Error| io::Error::new(error.kind(), format!("{} cannot be written: {error}", path.display()));
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(METRICS_MODE).open(&part);
    let written = file.and_then(|mut file| {
        // Whatever the umask, which is there for segments, has taken away from it.
        file.set_permissions(Permissions::from_mode(METRICS_MODE))?;
        file.write_all(text.as_bytes())
    });
    written.and_then(|()| fs::rename(&part, path)).map_err(in_file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_as_a_whole() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("agent.prom");
        replace(&path, "first\n").unwrap();
        replace(&path, "second\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "second\n");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        let error = replace(&directory.path().join("none/agent.prom"), "").unwrap_err();
        assert!(error.to_string().contains("agent.prom cannot be written"), "{error}");
    }

    #[test]
    fn anybody_may_read_it_whatever_the_umask() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("agent.prom");
        // The umask is the whole process's: nothing else is tested here that could fail for a stricter one.
        let umask = nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o027));
        let outcome = replace(&path, "text\n");
        nix::sys::stat::umask(umask);
        outcome.unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, METRICS_MODE);
    }
}
