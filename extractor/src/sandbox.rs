//! The sandbox (Landlock) of a run: it may write to the directories of its results, and nowhere
//! else.
//!
//! Rights belong to directories, not to names. So a new output has to add its directory here, and
//! the directory must exist before. Read rights are restricted only where all inputs are known: a
//! segment may be a link to any file, and an S3 client reads certificates and credentials, and may
//! start a program that provides them.
#![allow(
    clippy::disallowed_methods,
    reason = "a door: creates directories, and gives up the rights to all others"
)]

use std::{
    fs,
    path::{Path, PathBuf},
};

use landlock::{
    ABI, Access, AccessFs, AccessNet, AddRuleError, AddRulesError, BitFlags, CompatLevel,
    Compatible, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus,
    make_bitflags, path_beneath_rules,
};
use nix::errno::Errno;

use crate::{
    config::{Config, Directories, Source},
    segments::{AfterProcessing, directory_of, whole_path},
    source::drops_path,
    stored::IndexTask,
};

/// The versions of Landlock with the rights that are used here. Later versions only restrict
/// actions that this program does not perform.
const FILES: ABI = ABI::V3;
const NETWORK: ABI = ABI::V4;

const READ: BitFlags<AccessFs> = make_bitflags!(AccessFs::{ReadFile | ReadDir});
const WRITE: BitFlags<AccessFs> = make_bitflags!(AccessFs::{ReadFile | ReadDir | WriteFile | Truncate | MakeReg | MakeDir | RemoveFile | Refer});
/// The rights to mark a segment, to delete it, and to move it to a directory that is not writable
/// either; not to write to a segment.
const TIDY: BitFlags<AccessFs> =
    make_bitflags!(AccessFs::{ReadFile | ReadDir | MakeReg | RemoveFile | Refer});

/// The rights that a run keeps.
#[derive(Debug, Default)]
struct Kept {
    files: Vec<(PathBuf, BitFlags<AccessFs>)>,
    /// True when the run may open connections.
    network: bool,
}

/// Gives up all rights that the run does not need, for this thread and the threads that it starts.
/// If that fails, the log says so.
pub fn enter(config: &Config) {
    confine(Kept::of(config));
}

/// Gives up all rights but to read these files, and to make temporary files.
pub fn enter_to_read(files: &[PathBuf], temporary: &Path) {
    let mut kept = Kept::default();
    kept.read(files);
    kept.add(temporary, WRITE);
    confine(kept);
}

/// Gives up all rights but to read, and to write to these directories, which are made.
pub fn enter_to_write(directories: &[PathBuf], temporary: &Path) {
    confine(Kept::to_write(directories, temporary));
}

/// The same, and to ask a store.
pub fn enter_to_write_from_store(directories: &[PathBuf], temporary: &Path) {
    let mut kept = Kept::to_write(directories, temporary);
    kept.network = true;
    kept.credentials();
    confine(kept);
}

/// Gives up all rights but to read these records, and to write to the directory of a report.
pub fn enter_to_report(records: &[PathBuf], report: &Path) {
    let mut kept = Kept::default();
    kept.read(records);
    kept.add(directory_of(report), WRITE);
    confine(kept);
}

fn confine(kept: Kept) {
    match kept.restrict() {
        Ok(RulesetStatus::NotEnforced) => {
            tracing::debug!(
                "not in the sandbox: the kernel has no Landlock, or does not let this program use it"
            );
        }
        Ok(_) => tracing::debug!(
            "in the sandbox: the run writes to the directories of its results, and nowhere else"
        ),
        Err(error) => {
            tracing::warn!("not in the sandbox, the run may write wherever its user may: {error}");
        }
    }
}

impl Kept {
    fn to_write(directories: &[PathBuf], temporary: &Path) -> Self {
        let mut kept = Self::default();
        kept.add("/", READ);
        directories.iter().for_each(|path| kept.made(path));
        // Temporary directories are removed again.
        kept.add(temporary, WRITE | make_bitflags!(AccessFs::{RemoveDir}));
        kept
    }

    /// The user may have configured a program that provides credentials.
    fn credentials(&mut self) {
        self.add("/", make_bitflags!(AccessFs::{Execute}));
        self.add(
            "/dev/null",
            make_bitflags!(AccessFs::{ReadFile | WriteFile}),
        );
    }

    fn of(config: &Config) -> Self {
        let mut kept = Self {
            network: config.uploads.is_some(),
            ..Self::default()
        };
        let outputs = &config.outputs;
        kept.made(&outputs.directory);
        if let Some(parquet) = &outputs.parquet {
            kept.made(parquet);
        }
        for table in [&outputs.detected_calls_filename, &outputs.stats_filename] {
            let table = outputs.directory.join(table);
            kept.add(table.parent().unwrap_or(Path::new("/")), WRITE);
        }
        if let Some(report) = &config.report {
            kept.made(&directory_of(&report.to));
        }
        match &config.source {
            Source::Files(paths) if config.uploads.is_none() => {
                kept.read(paths);
                let beside = paths.iter().filter_map(|path| drops_path(path));
                beside.for_each(|path| kept.add(path, READ));
            }
            Source::Files(_) | Source::Archive(_) => kept.add("/", READ),
            Source::Directories(directories) => {
                kept.add("/", READ);
                kept.inputs(directories);
            }
        }
        if let Some(task) = &config.indexes {
            kept.indexes(task, &config.source);
        }
        if config.uploads.is_some() {
            kept.credentials();
        }
        kept
    }

    fn read(&mut self, files: &[PathBuf]) {
        files.iter().for_each(|path| self.add(path, READ));
        // The standard library reads CPU limits there, and `/dev/fd/3` leads through it.
        ["/proc", "/sys"]
            .iter()
            .for_each(|path| self.add(path, READ));
    }

    fn inputs(&mut self, directories: &Directories) {
        let mut rights = TIDY;
        if let AfterProcessing::Move(to) = &directories.after_processing {
            self.made(to);
            // Landlock does not allow a rename to a directory with more rights; the file would be
            // copied.
            rights = WRITE;
        }
        for path in &directories.paths {
            self.add(path, rights);
            if directories.stays {
                // The directory may be removed and created again, or not exist yet.
                let whole = whole_path(path);
                let there = whole.ancestors().skip(1).find(|path| path.is_dir());
                self.add(there.unwrap_or(Path::new("/")), TIDY);
            }
        }
    }

    /// The directories of indexes: one of their own, or those of the captures.
    fn indexes(&mut self, task: &IndexTask, source: &Source) {
        if let Some(directory) = &task.directory {
            self.made(directory);
            return;
        }
        match source {
            Source::Files(paths) => {
                let beside = paths.iter().filter_map(|path| path.parent());
                let here = |path: &Path| path.as_os_str().is_empty();
                for path in beside {
                    self.add(if here(path) { Path::new(".") } else { path }, WRITE);
                }
            }
            Source::Directories(directories) => {
                directories
                    .paths
                    .iter()
                    .for_each(|path| self.add(path, WRITE));
            }
            Source::Archive(_) => {}
        }
    }

    /// Adds a directory for results, and creates it. If that fails, the output that needs it
    /// reports the error.
    fn made(&mut self, path: &Path) {
        let _ = fs::create_dir_all(path);
        self.add(path, WRITE);
    }

    fn add(&mut self, path: impl AsRef<Path>, rights: BitFlags<AccessFs>) {
        self.files.push((path.as_ref().to_owned(), rights));
    }

    fn restrict(self) -> Result<RulesetStatus, RulesetError> {
        let mut ruleset = Ruleset::default()
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(AccessFs::from_all(FILES))?;
        if !self.network {
            ruleset = ruleset.handle_access(AccessNet::from_all(NETWORK))?;
        }
        let mut created = ruleset.create()?;
        for (path, rights) in self.files {
            // Paths that do not exist are skipped.
            match (&mut created).add_rules(path_beneath_rules([path], rights)) {
                Err(error) if !is_in_no_directory(&error) => return Err(error),
                _ => {}
            }
        }
        Ok(created.restrict_self()?.ruleset)
    }
}

/// Returns true for a pipe behind `/dev/stdin`, which needs no rule: an open file stays usable.
fn is_in_no_directory(error: &RulesetError) -> bool {
    let RulesetError::AddRules(AddRulesError::Fs(AddRuleError::AddRuleCall { source, .. })) = error
    else {
        return false;
    };
    source.raw_os_error() == Some(Errno::EBADFD as i32)
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{File, OpenOptions},
        io::{self, ErrorKind},
        net::{TcpListener, TcpStream},
        os::unix::fs::symlink,
        process::{Command, Stdio},
        sync::mpsc,
        thread,
    };

    use clap::Parser;
    use tempfile::TempDir;

    use super::*;
    use crate::cli::Arguments;

    /// A folder with captures and with other files.
    fn folder() -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        ["in", "others"]
            .iter()
            .for_each(|name| fs::create_dir(folder.path().join(name)).unwrap());
        for name in ["in/a.pcap", "in/b.pcap", "others/precious", "capture.pcap"] {
            fs::write(folder.path().join(name), "bytes").unwrap();
        }
        folder
    }

    /// Runs `act` with the rights of a run with these flags, in a thread of its own, because rights
    /// belong to threads. Returns how far the kernel supports them.
    fn confined(
        folder: &TempDir,
        flags: &str,
        act: impl FnOnce(&dyn Fn(&str) -> PathBuf) + Send,
    ) -> RulesetStatus {
        let at = |name: &str| folder.path().join(name);
        let flags = flags.replace("DIR/", &format!("{}/", folder.path().display()));
        let line = ["sip-call-extractor", "--output-dir"]
            .into_iter()
            .map(Into::into)
            .chain([at("out").into_os_string()]);
        let config = Arguments::parse_from(line.chain(flags.split(' ').map(Into::into))).config();
        let act = || {
            let status = Kept::of(&config).restrict().unwrap();
            if status == RulesetStatus::NotEnforced {
                println!(
                    "not tried: this kernel has no Landlock (is it in /sys/kernel/security/lsm?)"
                );
            } else {
                act(&at);
            }
            status
        };
        thread::scope(|scope| scope.spawn(act).join().unwrap())
    }

    #[track_caller]
    fn is_denied<T: std::fmt::Debug>(outcome: io::Result<T>) {
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::PermissionDenied);
    }

    /// Only the results can be written.
    #[track_caller]
    fn only_results_are_written(at: &dyn Fn(&str) -> PathBuf) {
        is_denied(File::create(at("others/new")));
        is_denied(File::create(at("new")));
        is_denied(OpenOptions::new().append(true).open(at("others/precious")));
        is_denied(
            OpenOptions::new()
                .write(true)
                .truncate(true)
                .open(at("in/a.pcap")),
        );
        is_denied(fs::remove_file(at("others/precious")));
        is_denied(fs::create_dir(at("others/made")));
        is_denied(symlink("/etc/passwd", at("out/link")));
        fs::write(at("out/.part"), "call").unwrap();
        fs::rename(at("out/.part"), at("out/call")).unwrap();
        tempfile::tempfile_in(at("out")).unwrap();
        fs::remove_file(at("out/call")).unwrap();
    }

    #[test]
    fn a_run_over_files_reads_them_and_writes_its_results() {
        confined(
            &folder(),
            "--input-file DIR/capture.pcap --stats-filename ../in/stats.csv",
            |at| {
                assert_eq!(fs::read(at("capture.pcap")).unwrap(), b"bytes");
                is_denied(fs::read(at("others/precious")));
                is_denied(OpenOptions::new().append(true).open(at("capture.pcap")));
                fs::write(at("in/stats.csv"), "a table elsewhere").unwrap();
                is_denied(File::create(at("others/new")));
                assert!(thread::available_parallelism().is_ok());
            },
        );
        confined(&folder(), "--input-file DIR/capture.pcap", |at| {
            only_results_are_written(at);
            is_denied(fs::read("/etc/passwd"));
            is_denied(Command::new("/bin/true").status());
        });
    }

    #[test]
    fn a_run_without_uploads_connects_to_nobody() {
        let mut bound = None;
        let status = confined(&folder(), "--input-file DIR/capture.pcap", |_| {
            bound = Some(TcpListener::bind("127.0.0.1:0"));
        });
        match bound {
            Some(bound) if status == RulesetStatus::FullyEnforced => is_denied(bound),
            _ => println!("not tried: this kernel, older than Linux 6.7, has no such rights"),
        }
    }

    #[test]
    fn segments_are_marked_and_deleted_but_not_written() {
        for flags in [
            "--input-dir DIR/in",
            "--input-dir DIR/in --after-processing delete",
        ] {
            confined(&folder(), flags, |at| {
                only_results_are_written(at);
                assert_eq!(
                    fs::read(at("others/precious")).unwrap(),
                    b"bytes",
                    "a segment may be a link"
                );
                fs::remove_file(at("in/a.pcap")).unwrap();
            });
        }
    }

    #[test]
    fn segments_are_moved_and_not_copied() {
        for (flags, to) in [
            ("move:DIR/made/done", "made/done"),
            ("move:DIR/linked", "others"),
            ("move:DIR/in/done", "in/done"),
            ("move:DIR/in/done --watch", "in/done"),
        ] {
            let folder = folder();
            symlink(folder.path().join("others"), folder.path().join("linked")).unwrap();
            let mut moved = Ok(());
            let status = confined(
                &folder,
                &format!("--input-dir DIR/in --after-processing {flags}"),
                |at| {
                    moved = fs::rename(at("in/a.pcap"), at(to).join("a.pcap"));
                    is_denied(File::create(at("new")));
                },
            );
            match moved {
                Err(error)
                    if error.kind() == ErrorKind::CrossesDevices
                        && status != RulesetStatus::FullyEnforced =>
                {
                    println!(
                        "not tried: this kernel, older than Linux 5.19, has no such right, and segments are copied"
                    );
                }
                moved => moved.unwrap(),
            }
        }
    }

    #[test]
    fn a_watch_goes_on_where_its_input_is_made_again() {
        for name in ["in", "later/in"] {
            let folder = folder();
            let path = folder.path().join(name);
            // A process outside the sandbox.
            let (ask, asked) = mpsc::channel::<()>();
            let other = thread::spawn(move || {
                let _ = asked.recv();
                let _ = fs::remove_dir_all(&path);
                fs::create_dir_all(&path).unwrap();
                fs::write(path.join("c.pcap"), "bytes").unwrap();
            });
            confined(
                &folder,
                &format!("--input-dir DIR/{name} --watch --after-processing delete"),
                move |at| {
                    drop(ask);
                    other.join().unwrap();
                    fs::remove_file(at(name).join("c.pcap")).unwrap();
                    is_denied(OpenOptions::new().append(true).open(at("others/precious")));
                },
            );
        }
    }

    #[test]
    fn uploads_reach_the_store_and_start_programs() {
        let flags = "--input-file DIR/capture.pcap --auto-upload-to-s3 --s3-uri s3://calls/ --s3-region eu-central-1";
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        confined(&folder(), flags, |at| {
            only_results_are_written(at);
            fs::read("/etc/passwd").unwrap();
            TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let outside = format!("echo x > {}", at("others/new").display());
            let status = |line: &str| {
                Command::new("/bin/sh")
                    .args(["-c", line])
                    .stderr(Stdio::null())
                    .status()
            };
            assert!(status("true > /dev/null").unwrap().success());
            assert!(!status(&outside).unwrap().success() && !at("others/new").exists());
        });
    }
}
