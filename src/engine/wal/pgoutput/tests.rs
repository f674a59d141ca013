//! Messages as bytes, captured from a server and altered at random.

use super::*;

/// Captured from PostgreSQL 18 with `pg_logical_slot_get_binary_changes`.
const CAPTURED: &str = include_str!("../../../../tests/fixtures/pgoutput/transactions.hex");

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(pair).collect()
}

fn check(hex: &str, expected: &str) {
    let found = match decode(&bytes(hex)) {
        Ok(message) => format!("{message:?}"),
        Err(error) => format!("error: {error}"),
    };
    assert_eq!(found, expected, "{hex}");
}

#[test]
fn messages_are_decoded() {
    check(
        "42 00000000102b56f0 000303f6bc6a8539 0000032a",
        "Begin(Begin { commit_lsn: 271275760, committed_at: 848783188067641, xid: 810 })",
    );
    check(
        "43 00 00000000102b56f0 00000000102b5720 000303f6bc6a8539",
        "Commit(Commit { commit_lsn: 271275760, end_lsn: 271275808, committed_at: \
         848783188067641 })",
    );
    check("4f 00000000000000ab 656c7365776865726500", "Origin { name: \"elsewhere\" }");
    check("59 000040ab 7075626c696300 6d6f6f6400", "Type { oid: 16555 }");
    check(
        "52 000040bf 7075626c696300 6f7468657200 64 0001 01 696400 00000017 ffffffff",
        "Relation(Relation { oid: 16575, schema: \"public\", name: \"other\", \
         replica_identity: 100, columns: [Column { is_key: true, name: \"id\", type_oid: 23, \
         type_modifier: -1 }] })",
    );
    check("49 000040b7 4e 0003 74 00000001 39 6e 6e", "Insert { relation: 16567, new: (t1 n n ) }");
    check(
        "55 000040af 4b 0002 74 00000001 31 6e 4e 0002 74 00000001 33 75",
        "Update { relation: 16559, old: Some(Key((t1 n ))), new: (t1 u ) }",
    );
    check(
        "55 000040af 4e 0001 74 00000001 33",
        "Update { relation: 16559, old: None, new: (t1 ) }",
    );
    check("44 000040af 4f 0001 6e", "Delete { relation: 16559, old: Whole((n )) }");
    check("54 00000002 00 000040b7 000040bf", "Truncate { relations: [16567, 16575] }");
    check(
        "4d 01 00000000102ba5b0 70726500 00000002 6869",
        "Logical { transactional: true, prefix: \"pre\" }",
    );
}

#[test]
fn bytes_that_are_no_message_are_an_error() {
    check("", "error: a message ends early");
    check("42 00000000", "error: a message ends early");
    check("7a", "error: unknown message tag 0x7a");
    check("49 000040b7 4e 0001 6e 00", "error: a message has 1 bytes too many");
    check("49 000040b7 4b 0001 6e", "error: unknown tuple tag 0x4b");
    check("44 000040b7 4e 0001 6e", "error: unknown tuple tag 0x4e");
    check("49 000040b7 4e 0001 78", "error: unknown column tag 0x78");
    check("49 000040b7 4e 0001 74 ffffffff 00", "error: a message ends early");
    check("54 ffffffff 00 00000001", "error: a message ends early");
    check("59 00000001 ff00 00", "error: a name is not UTF-8");
}

#[test]
fn what_a_server_sends_is_decoded_to_the_last_byte() {
    let messages: Vec<Vec<u8>> = CAPTURED.lines().map(bytes).collect();
    assert!(messages.len() > 40);
    for message in &messages {
        decode(message).unwrap();
        for cut in 0..message.len().min(200) {
            let cut = message.get(..cut).unwrap();
            assert!(decode(cut).is_err(), "{cut:02x?}");
        }
    }
}

#[test]
fn no_input_panics() {
    let messages: Vec<Vec<u8>> = CAPTURED.lines().map(bytes).collect();
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..50_000 {
        let mut message = messages[random.usize(..messages.len())].clone();
        message.truncate(256);
        for _ in 0..random.usize(1..6) {
            if message.is_empty() {
                break;
            }
            let at = random.usize(..message.len());
            match random.u8(..4) {
                0 => message[at] = random.u8(..),
                1 => message.truncate(at),
                2 => message.insert(at, random.u8(..)),
                _ => drop(message.remove(at)),
            }
        }
        if let Ok(Message::Insert { new, .. } | Message::Update { new, .. }) = decode(&message) {
            assert_eq!(new.values().count(), new.len());
        }
    }
}
