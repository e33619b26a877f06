//! Wrong usage is refused before anything is done; and a URI alone sends nothing.

use std::fs;

use support::{desk::Files, ladder::extract_bytes};

use super::site::{CALLS, STREAMS, Site, URI, few};

/// Checks that these flags are refused with these words.
#[track_caller]
fn is_refused(flags: &[&str], words: &str) {
    let site = Site::new();
    let mut command = site.bare();
    command
        .arg("--input-file")
        .arg(site.desk.folder().join("whole.pcap"))
        .arg("--output-dir")
        .arg(&site.desk.out)
        .args(flags);
    let ran = site.desk.ended(&mut command);
    assert_eq!(ran.status, Some(2), "{flags:?}: {}", ran.log);
    ran.says(words);
    assert!(!site.desk.out.exists(), "{flags:?}: something was done");
}

#[test]
fn an_upload_needs_to_know_where_to() {
    is_refused(
        &["--auto-upload-to-s3", "--s3-region", "eu-central-1"],
        "--s3-uri",
    );
    is_refused(&["--auto-upload-to-s3", "--s3-uri", URI], "--s3-region");
}

/// AWS tools find the region where they find the credentials.
#[test]
fn the_region_is_where_the_sdk_finds_it() {
    let site = Site::new();
    let profile = site.desk.folder().join("aws-config");
    fs::write(
        &profile,
        "[default]\nregion = eu-north-1\n[profile other]\nregion = eu-south-1\n",
    )
    .unwrap();
    let says = |environment: &[(&str, &str)], words: &str| {
        let mut command = site.bare();
        command
            .env_remove("AWS_REGION")
            .env_remove("AWS_DEFAULT_REGION")
            .env_remove("AWS_PROFILE");
        command.envs(environment.iter().copied()).args([
            "--s3-check",
            "--s3-uri",
            "s3://calls/",
            "--s3-endpoint-url",
            "http://localhost:1",
        ]);
        let ran = site.desk.ended(&mut command);
        ran.says(words);
        ran.status
    };
    let host = "http://localhost:1 cannot be reached by the bucket's name, calls.localhost:1";
    let config = profile.to_str().unwrap();
    assert_eq!(
        says(
            &[("AWS_CONFIG_FILE", "/nonexistent")],
            "no region: give --s3-region"
        ),
        Some(2)
    );
    assert_eq!(
        says(
            &[
                ("AWS_REGION", "eu-west-1"),
                ("AWS_CONFIG_FILE", "/nonexistent")
            ],
            host
        ),
        Some(1)
    );
    assert_eq!(
        says(&[("AWS_CONFIG_FILE", config)], "give --s3-path-style"),
        Some(1)
    );
    assert_eq!(
        says(
            &[("AWS_CONFIG_FILE", config), ("AWS_PROFILE", "other")],
            host
        ),
        Some(1)
    );
}

#[test]
fn an_invalid_uri_is_refused() {
    for uri in [
        "calls/office/",
        "http://calls/office/",
        "s3://",
        "s3:///office/",
        "s3:calls/",
        "s3://calls office/",
        "s3://calls//office/",
    ] {
        is_refused(&["--s3-uri", uri], uri);
    }
}

#[test]
fn values_that_a_store_would_refuse_are_refused_here() {
    for (flag, value) in [
        ("--s3-storage-class", "FROZEN"),
        ("--s3-sse", "AES"),
        ("--s3-sse", "aws:kms:"),
        ("--s3-tags", "voice"),
        ("--s3-tags", "=voice"),
        ("--s3-tags", "team=voice,team=data"),
        ("--s3-tags", "a=1,b=2,c=3,d=4,e=5,f=6,g=7,h=8,i=9,j=10,k=11"),
        ("--s3-concurrency", "0"),
        ("--local-cleanup", "sometimes"),
        ("--spool-max-bytes", "much"),
        ("--s3-endpoint-url", "nowhere"),
    ] {
        is_refused(
            &[
                "--auto-upload-to-s3",
                "--s3-uri",
                URI,
                "--s3-region",
                "eu-central-1",
                flag,
                value,
            ],
            flag,
        );
    }
}

/// Parses both tables, and removes the columns with object URIs.
fn without_locations(files: &Files) -> (Vec<String>, Vec<Vec<String>>) {
    let (mut locations, mut rest) = (Vec::new(), Vec::new());
    for name in [CALLS, STREAMS] {
        let mut reader = csv::Reader::from_reader(files[name].as_slice());
        let columns = reader.headers().unwrap().clone();
        let location = columns
            .iter()
            .position(|column| column == "s3_location")
            .unwrap();
        let file = columns
            .iter()
            .position(|column| column == "output_pcap_filename")
            .unwrap();
        for row in reader.records().map(|row| row.unwrap()) {
            locations.push(format!("{}|{}", &row[location], &row[file]));
            rest.push(
                row.iter()
                    .enumerate()
                    .filter(|(at, _)| *at != location)
                    .map(|(_, value)| value.to_owned())
                    .collect(),
            );
        }
    }
    (locations, rest)
}

#[test]
fn a_uri_alone_says_where_files_would_be_and_sends_nothing() {
    let site = Site::new();
    let plain = extract_bytes(&few().to_pcap(), &[]).files();
    let mut command = site.bare();
    command
        .arg("--input-file")
        .arg(site.desk.folder().join("whole.pcap"))
        .arg("--output-dir")
        .arg(&site.desk.out);
    site.desk
        .ended(
            command
                .args(["--s3-uri", URI])
                .env("AWS_ENDPOINT_URL", site.proxy.url()),
        )
        .is(0);
    let tracked = site.desk.everything_in_out();
    assert!(tracked.keys().eq(plain.keys()), "{:?}", tracked.keys());
    for (name, bytes) in plain.iter().filter(|(name, _)| name.starts_with("call_")) {
        assert!(tracked[name] == *bytes, "{name} differs");
    }
    let ((plain_locations, plain_rows), (locations, rows)) =
        (without_locations(&plain), without_locations(&tracked));
    assert_eq!(plain_rows, rows);
    assert_eq!(locations.len(), 6 + 12);
    assert!(
        plain_locations
            .iter()
            .all(|location| location.starts_with('|')),
        "{plain_locations:?}"
    );
    for location in locations {
        let (location, file) = location.split_once('|').unwrap();
        assert_eq!(location, format!("{URI}{file}"));
    }
    assert_eq!(site.proxy.connections(), 0);
}

#[test]
fn the_host_may_be_in_the_uri() {
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let host = host.trim().split('.').next().unwrap();
    let site = Site::new();
    site.run_to("s3://calls/at-{hostname}/of/{hostname}").is(0);
    let keys: Vec<String> = site.store.objects().into_keys().collect();
    assert_eq!(keys.len(), 6, "{keys:?}");
    let prefix = format!("at-{host}/of/{host}/");
    assert!(keys.iter().all(|key| key.starts_with(&prefix)), "{keys:?}");
    let table = String::from_utf8(site.desk.everything_in_out().remove(CALLS).unwrap()).unwrap();
    assert_eq!(
        table.matches(&format!("s3://calls/{prefix}call_")).count(),
        6,
        "{table}"
    );
}
