//! The sources of credentials, and the fate of calls with missing or wrong ones.

use std::{fs, process::Command};

use crate::sandbox::WITHOUT;

use super::{
    proxy::{Answer, Rule},
    site::{Results, Site},
    store::{ACCESS_KEY, SECRET_KEY},
};

/// Returns a command without any credentials.
fn without(site: &Site) -> Command {
    let mut command = site.command(&[]);
    command
        .env_remove("AWS_ACCESS_KEY_ID")
        .env_remove("AWS_SECRET_ACCESS_KEY");
    command
}

fn keys() -> String {
    format!("aws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\n")
}

#[test]
fn of_a_profile() {
    let site = Site::new();
    let file = site.desk.folder().join("credentials");
    fs::write(
        &file,
        format!(
            "[default]\naws_access_key_id = other\naws_secret_access_key = other\n\n[office]\n{}",
            keys()
        ),
    )
    .unwrap();
    let mut command = without(&site);
    command
        .env("AWS_PROFILE", "office")
        .env("AWS_SHARED_CREDENTIALS_FILE", file);
    site.desk.ended(&mut command).is(0);
    site.is_done_and_forgotten(Results::of_few(), "of a profile");
}

#[test]
fn of_the_file_at_home() {
    let site = Site::new();
    fs::create_dir(site.home().join(".aws")).unwrap();
    fs::write(
        site.home().join(".aws/credentials"),
        format!("[default]\n{}", keys()),
    )
    .unwrap();
    site.desk.ended(&mut without(&site)).is(0);
    site.is_done_and_forgotten(Results::of_few(), "of the file at home");
}

#[test]
fn of_a_program() {
    let site = Site::new();
    let answer = site.desk.folder().join("answer");
    let text = format!(
        r#"{{"Version": 1, "AccessKeyId": "{ACCESS_KEY}", "SecretAccessKey": "{SECRET_KEY}"}}"#
    );
    fs::write(&answer, text).unwrap();
    let config = site.desk.folder().join("config");
    fs::write(
        &config,
        format!("[default]\ncredential_process = cat {}\n", answer.display()),
    )
    .unwrap();
    site.desk
        .ended(without(&site).env("AWS_CONFIG_FILE", config))
        .is(0);
    site.is_done_and_forgotten(Results::of_few(), "of a program");
}

#[test]
fn a_program_that_has_them_writes_no_more_than_the_run_may() {
    for (flags, is_written) in [(&[][..], false), (&["--no-sandbox"][..], true)] {
        let site = Site::new();
        let [answer, config, program, outside] =
            ["answer", "config", "program", "outside"].map(|name| site.desk.folder().join(name));
        let text = format!(
            r#"{{"Version": 1, "AccessKeyId": "{ACCESS_KEY}", "SecretAccessKey": "{SECRET_KEY}"}}"#
        );
        fs::write(&answer, text).unwrap();
        fs::write(
            &program,
            format!("echo x > {}\ncat {}\n", outside.display(), answer.display()),
        )
        .unwrap();
        fs::write(
            &config,
            format!("[default]\ncredential_process = sh {}\n", program.display()),
        )
        .unwrap();
        let mut command = site.command(flags);
        command
            .env_remove("AWS_ACCESS_KEY_ID")
            .env_remove("AWS_SECRET_ACCESS_KEY")
            .env("AWS_CONFIG_FILE", config);
        let ran = site.desk.ended(command.arg("--debug")).is(0);
        site.is_done_and_forgotten(Results::of_few(), "of a program");
        if ran.log.contains(WITHOUT) {
            println!("not tried: this kernel has no Landlock");
        } else {
            assert_eq!(outside.exists(), is_written, "{flags:?}");
        }
    }
}

#[test]
fn of_a_session() {
    let site = Site::new();
    site.desk
        .ended(site.command(&[]).env("AWS_SESSION_TOKEN", "a session"))
        .is(0);
    site.is_done_and_forgotten(Results::of_few(), "of a session");
    assert!(
        site.proxy
            .requests()
            .iter()
            .all(|request| request.header("x-amz-security-token") == "a session")
    );
}

/// Checks that all calls are kept, that the tables are complete, and that with correct credentials
/// only the uploads remain.
#[track_caller]
fn costs_nothing(site: &Site, command: &mut Command, words: &str, what: &str) {
    let want = Results::of_few();
    let ran = site.desk.ended(command);
    assert_eq!(ran.status, Some(3), "{what}: {}", ran.log);
    ran.says(words);
    site.keeps_all(want, what);
    assert!(site.stored().is_empty(), "{what}");
    site.proxy.heal();
    site.run(&[]).is(0);
    site.is_done_and_forgotten(want, what);
    assert!(
        site.puts().iter().all(|(_, times)| *times == 1),
        "{what}: {:?}",
        site.puts()
    );
}

#[test]
fn none_at_all() {
    let site = Site::new();
    costs_nothing(
        &site,
        &mut without(&site),
        "there are no credentials for S3",
        "no credentials",
    );
}

#[test]
fn a_wrong_secret() {
    let site = Site::new();
    costs_nothing(
        &site,
        site.command(&[]).env("AWS_SECRET_ACCESS_KEY", "wrong"),
        "does not accept the credentials (SignatureDoesNotMatch",
        "a wrong secret",
    );
}

/// The test's store has another error code for it than S3.
#[test]
fn a_key_that_nobody_knows() {
    let site = Site::new();
    costs_nothing(
        &site,
        site.command(&[]).env("AWS_ACCESS_KEY_ID", "AKIANOBODY"),
        "does not accept the credentials (NotSignedUp",
        "an unknown key",
    );
    let site = Site::new();
    site.proxy.rule(Rule::answer(Answer::INVALID_ACCESS_KEY));
    costs_nothing(
        &site,
        &mut site.command(&[]),
        "does not accept the credentials (InvalidAccessKeyId",
        "an unknown key",
    );
}

#[test]
fn a_session_that_is_over() {
    let site = Site::new();
    site.proxy.rule(Rule::answer(Answer::EXPIRED));
    costs_nothing(
        &site,
        &mut site.command(&[]),
        "does not accept the credentials (ExpiredToken",
        "an expired token",
    );
}

#[test]
fn a_profile_that_is_not_there() {
    let site = Site::new();
    costs_nothing(
        &site,
        without(&site).env("AWS_PROFILE", "office"),
        "there are no credentials for S3",
        "a missing profile",
    );
}
