//! Every call becomes an object, byte for byte, with the requested metadata.

use std::time::Duration;

use support::{
    desk::{Files, assert_same},
    ladder::extract_bytes,
    traffic::{self, Plan, Signalling},
};

use crate::segments::everything::{Form, Packets};

use super::{
    proxy::{Fault, Operation, Request, Rule},
    site::{CHECK, PREFIX, Results, Site, is_of_a_call},
    store::base64,
};

/// Returns calls of all lengths, some of them over TCP.
fn many() -> Vec<u8> {
    let plan = Plan {
        calls: 8,
        bytes: u64::MAX,
        most_calls: 40,
        seconds_of_media: 2,
        signalling: Signalling::Mixed,
        ..Plan::default()
    };
    let mut capture = Vec::new();
    traffic::write(&plan, &mut capture).unwrap();
    capture
}

#[test]
fn all_calls_of_a_capture_are_objects() {
    let capture = many();
    let want = Results::of(&capture);
    assert_eq!(want.calls.len(), 40);
    for cleanup in ["uploaded", "always", "never"] {
        let site = Site::new();
        site.lay(&capture);
        // Windows are so small that uploads begin while most of the file is still to be read.
        site.run(&["--local-cleanup", cleanup, "--window-bytes", "100000"])
            .is(0);
        assert_same(&want.calls, &site.stored(), cleanup);
        let left = if cleanup == "never" {
            want.all()
        } else {
            want.tables.clone()
        };
        site.desk.has(&left, cleanup);
        assert!(!site.has_state(), "{cleanup}: a state is left");
        assert!(
            site.puts().iter().all(|(_, times)| *times == 1),
            "{cleanup}: {:?}",
            site.puts()
        );
    }
}

/// Its legs are sent and deleted before it is complete.
#[test]
fn the_file_of_a_conversation_is_an_object_too() {
    let capture = Packets::everything(Form::Micro).whole();
    let want = extract_bytes(&capture, &["--conversations"]).files();
    let want: Files = want
        .into_iter()
        .filter(|(name, _)| name.starts_with("conversation_"))
        .collect();
    assert_eq!(want.len(), 3, "{:?}", want.keys());
    let site = Site::new();
    site.lay(&capture);
    let flags = [
        "--conversations",
        "--window-bytes=9000",
        "--unit-bytes=30000",
    ];
    site.run(&flags).is(0);
    let stored = site.store.under(PREFIX).into_iter();
    let stored = stored.filter(|(name, _)| name.starts_with("conversation_"));
    assert_same(&want, &stored.collect(), "conversations");
    let left = site.desk.everything_in_out();
    let tables = left.keys().all(|name| name.ends_with(".csv"));
    assert!(tables, "{:?}", left.keys());
}

#[test]
fn files_are_deleted_by_default() {
    let site = Site::new();
    site.run(&[]).is(0);
    site.is_done_and_forgotten(Results::of_few(), "by default");
}

fn puts_of_calls(site: &Site) -> Vec<Request> {
    let puts = site.proxy.requests_for(Operation::Put);
    puts.into_iter()
        .filter(|put| is_of_a_call(&put.key))
        .collect()
}

#[test]
fn the_store_is_told_what_it_is_and_what_to_check() {
    let site = Site::new();
    site.run(&[]).is(0);
    let puts = puts_of_calls(&site);
    assert_eq!(puts.len(), 6);
    for put in &puts {
        let checksum = crc32fast::hash(&put.body).to_be_bytes();
        assert_eq!(put.header("x-amz-checksum-crc32"), base64(&checksum));
        assert_eq!(put.header("x-amz-meta-sha256"), sha256(&put.body));
        assert_eq!(put.header("content-type"), "application/vnd.tcpdump.pcap");
        for header in [
            "x-amz-storage-class",
            "x-amz-server-side-encryption",
            "x-amz-tagging",
        ] {
            assert!(
                !put.headers.contains_key(header),
                "{header} was not asked for"
            );
        }
    }
}

#[test]
fn class_encryption_and_tags_are_as_asked_for() {
    let key = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd";
    for (sse, algorithm, id) in [
        ("AES256", "AES256", None),
        ("aws:kms", "aws:kms", None),
        (&format!("aws:kms:{key}"), "aws:kms", Some(key)),
    ] {
        let site = Site::new();
        let flags = [
            "--s3-storage-class",
            "REDUCED_REDUNDANCY",
            "--s3-sse",
            sse,
            "--s3-tags",
            "team=voice & data,kept=yes",
        ];
        site.run(&flags).is(0);
        site.is_done_and_forgotten(Results::of_few(), sse);
        for put in puts_of_calls(&site) {
            assert_eq!(put.header("x-amz-storage-class"), "REDUCED_REDUNDANCY");
            assert_eq!(put.header("x-amz-server-side-encryption"), algorithm);
            let header = "x-amz-server-side-encryption-aws-kms-key-id";
            assert_eq!(put.headers.get(header).map(String::as_str), id);
            let tags = put.header("x-amz-tagging").replace('+', "%20");
            assert_eq!(tags, "team=voice%20%26%20data&kept=yes");
        }
    }
}

#[test]
fn prefixes_are_folders_or_nothing() {
    for (uri, prefix) in [
        ("s3://calls/office", "office/"),
        ("s3://calls", ""),
        ("s3://calls/", ""),
        ("s3://calls/a/b c/", "a/b c/"),
    ] {
        let site = Site::new();
        site.run_to(uri).is(0);
        assert_same(&Results::of_few().calls, &site.store.under(prefix), uri);
        assert!(site.local().is_empty(), "{uri}");
    }
}

#[test]
fn an_address_needs_no_path_style() {
    let site = Site::new();
    let flags = site.flags();
    let mut command = site.bare();
    command
        .arg("--input-file")
        .arg(site.desk.folder().join("whole.pcap"))
        .arg("--output-dir")
        .arg(&site.desk.out);
    site.desk
        .ended(command.args(flags.iter().filter(|flag| *flag != "--s3-path-style")))
        .is(0);
    site.is_done_and_forgotten(Results::of_few(), "without path style");
}

#[test]
fn so_many_at_once_and_no_more() {
    for (flag, most) in [("1", 1), ("3", 3)] {
        let site = Site::new();
        site.proxy
            .rule(Rule::new(Fault::Late(Duration::from_millis(100))).on(Operation::Put));
        site.run(&["--s3-concurrency", flag, "--no-s3-check"]).is(0);
        site.is_done_and_forgotten(Results::of_few(), flag);
        assert_eq!(site.proxy.most_at_once(), most);
    }
}

#[test]
fn nothing_else_is_left_in_the_store() {
    let site = Site::new();
    site.run(&[]).is(0);
    assert_eq!(site.store.objects().len(), 6);
    assert_eq!(site.store.under(PREFIX).len(), 6);
    assert!(
        site.proxy
            .requests()
            .iter()
            .any(|request| request.key.ends_with(CHECK))
    );
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest;
    sha2::Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
