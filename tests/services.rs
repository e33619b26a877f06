//! Runs `scripts/install-services` with a folder as root.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use tempfile::TempDir;

struct Machine {
    folder: TempDir,
}

impl Machine {
    fn new() -> Self {
        let machine = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        machine.build("first");
        machine
    }

    /// Creates programs that do nothing.
    fn build(&self, version: &str) {
        let built = self.folder.path().join("built");
        fs::create_dir_all(&built).unwrap();
        for program in ["sip-capture-agent", "sip-call-extractor"] {
            fs::write(built.join(program), format!("#!/bin/sh\necho {version}\n")).unwrap();
            fs::set_permissions(built.join(program), fs::Permissions::from_mode(0o755)).unwrap();
        }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join("root").join(path)
    }

    fn text(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/install-services");
        let mut command = Command::new(script);
        command
            .env("DESTDIR", self.folder.path().join("root"))
            .arg("--built")
            .arg(self.folder.path().join("built"));
        command.args(arguments).output().unwrap()
    }

    fn installs(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(
            output.status.success(),
            "{arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    fn refuses(&self, arguments: &[&str], why: &str) {
        let output = self.run(arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.code() == Some(2) && said.contains(why),
            "{arguments:?}: {said}"
        );
        assert!(
            !self.path("etc").exists(),
            "{arguments:?} installed something"
        );
    }
}

#[test]
fn flags_are_no_interfaces() {
    let machine = Machine::new();
    let help = machine.installs(&["--help"]);
    assert!(
        help.contains("scripts/install-services INTERFACE...") && !help.contains("set -e"),
        "{help}"
    );
    assert!(!machine.path("etc").exists());
    machine.refuses(&["--interface", "eth0"], "there is no flag --interface");
    machine.refuses(&[], "name the interfaces to capture on");
    machine.refuses(&["eth0; rm -rf /"], "is not the name of an interface");
    machine.refuses(&["--uninstall", "eth0"], "takes no interface");
}

#[test]
fn a_second_run_changes_what_it_is_asked_for() {
    let machine = Machine::new();
    machine.installs(&["eth0"]);
    let config = "etc/sip/capture-agent.toml";
    assert!(machine.text(config).contains("\ninterface = [\"eth0\"]\n"));
    let mode = |path: &str| {
        fs::metadata(machine.path(path))
            .unwrap()
            .permissions()
            .mode()
            & 0o777
    };
    assert_eq!(
        (
            mode("etc/default/sip-call-extractor"),
            mode("usr/local/bin/sip-call-extractor")
        ),
        (0o600, 0o755)
    );
    assert!(
        machine
            .path("usr/local/lib/systemd/system/capture-agent.service")
            .exists()
    );

    // Files that users have edited stay.
    let edited = machine
        .text(config)
        .replace("max-age = \"24h\"", "max-age = \"48h\"");
    fs::write(machine.path(config), &edited).unwrap();
    fs::write(
        machine.path("etc/default/sip-call-extractor"),
        "UPLOADS=--mine\n",
    )
    .unwrap();
    machine.build("second");
    let said = machine.installs(&["eth0", "eth1.100"]);
    assert!(
        said.contains("Changed") && said.contains("interface = [\"eth0\", \"eth1.100\"]"),
        "{said}"
    );
    assert_eq!(
        machine.text(config),
        edited.replace("[\"eth0\"]", "[\"eth0\", \"eth1.100\"]")
    );
    assert_eq!(
        machine.text("etc/default/sip-call-extractor"),
        "UPLOADS=--mine\n"
    );
    assert!(
        machine
            .text("usr/local/bin/sip-capture-agent")
            .contains("second")
    );
    assert!(machine.installs(&["eth0", "eth1.100"]).contains("Kept: "));
}

#[test]
fn units_of_earlier_versions_give_way_and_edited_ones_are_kept() {
    let machine = Machine::new();
    let units = "etc/systemd/system";
    fs::create_dir_all(machine.path(units)).unwrap();
    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/systemd/extractor.service");
    fs::copy(ours, machine.path("etc/systemd/system/extractor.service")).unwrap();
    fs::write(
        machine.path("etc/systemd/system/capture-agent.service"),
        "[Service]\nNice=5\n",
    )
    .unwrap();
    let said = machine.installs(&["any"]);
    assert!(
        said.contains("capture-agent.service, which differs from ours and overrides it"),
        "{said}"
    );
    assert!(
        !machine
            .path("etc/systemd/system/extractor.service")
            .exists()
    );
    assert_eq!(
        machine.text("etc/systemd/system/capture-agent.service"),
        "[Service]\nNice=5\n"
    );
}

#[test]
fn files_of_users_stay_after_an_uninstall() {
    let machine = Machine::new();
    machine.installs(&["eth0"]);
    let said = machine.installs(&["--uninstall"]);
    assert!(said.contains("These stay"), "{said}");
    assert!(!machine.path("usr/local/bin/sip-capture-agent").exists());
    assert!(
        fs::read_dir(machine.path("usr/local/lib/systemd/system"))
            .unwrap()
            .next()
            .is_none()
    );
    assert!(
        machine.path("etc/sip/capture-agent.toml").exists()
            && machine.path("etc/default/sip-call-extractor").exists()
    );
}
