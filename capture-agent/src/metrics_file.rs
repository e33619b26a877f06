//! Writes the metrics file for node_exporter.
#![allow(clippy::disallowed_methods, reason = "a door: the metrics file")]

use std::{
    fs::Permissions,
    io::{self, Write},
    os::unix::fs::PermissionsExt,
    path::Path,
};

use shared::files;

/// Everybody may read the counters: node_exporter runs as another user.
const METRICS_MODE: u32 = 0o644;

/// Replaces the file atomically by one with this text.
pub(crate) fn replace(path: &Path, text: &str) -> io::Result<()> {
    let in_file = |error: io::Error| {
        io::Error::new(
            error.kind(),
            format!("cannot write {}: {error}", path.display()),
        )
    };
    let written = files::replacement(path, METRICS_MODE).and_then(|mut part| {
        // The umask, meant for segments, may have removed these bits.
        part.as_file()
            .set_permissions(Permissions::from_mode(METRICS_MODE))?;
        part.write_all(text.as_bytes())?;
        part.persist(path)?;
        Ok(())
    });
    written.map_err(in_file)
}

/// Removes the temporary files of an agent that was killed. A failure is logged, and the next file
/// is written all the same.
pub(crate) fn remove_leftovers(path: &Path) {
    if let Err(error) = files::remove_leftovers(path) {
        tracing::debug!(
            "cannot remove old temporary files beside {}: {error}",
            path.display()
        );
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

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
        assert!(
            error.to_string().contains("cannot write") && error.to_string().contains("agent.prom"),
            "{error}"
        );
    }

    #[test]
    fn links_that_somebody_has_put_there_are_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let [path, old_part, victim] =
            ["agent.prom", ".agent.prom.part", "victim"].map(|name| directory.path().join(name));
        fs::write(&victim, "precious").unwrap();
        symlink(&victim, &path).unwrap();
        symlink(&victim, &old_part).unwrap();
        replace(&path, "text\n").unwrap();
        assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
        assert_eq!(fs::read_to_string(&path).unwrap(), "text\n");
        assert!(!fs::symlink_metadata(&path).unwrap().is_symlink());
    }

    #[test]
    fn anybody_may_read_it_whatever_the_umask() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("agent.prom");
        // The umask belongs to the whole process: no other test here may depend on it.
        let umask = nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o027));
        let outcome = replace(&path, "text\n");
        nix::sys::stat::umask(umask);
        outcome.unwrap();
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            METRICS_MODE
        );
    }
}
