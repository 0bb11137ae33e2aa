//! What tokens keep, and which ones are refused.

use uuid::Uuid;

use super::*;
use crate::clock::SeededIds;
use crate::error::ErrorKind;

fn table() -> Uuid {
    Uuid::from_u128(0x1234)
}

fn file(manifest: u32, entry: u32, row: u64) -> Inside {
    Inside { cursor: Cursor::File { manifest, entry, row }, digest: 0xfeed }
}

fn unit(unit: u32, ordinal: u64) -> Inside {
    Inside { cursor: Cursor::Unit { unit, ordinal }, digest: u64::MAX }
}

/// One of every kind of place.
fn places() -> Vec<Place> {
    let id = SnapshotId(-42);
    vec![
        Place::Origin,
        Place::After(SnapshotId(i64::MAX)),
        Place::Full(id, None),
        Place::Full(id, Some(file(3, 9, 1_000))),
        Place::Within(id, file(0, u32::MAX, Cursor::ALL)),
        Place::Within(id, unit(7, 0)),
        Place::Within(id, unit(7, Cursor::ALL)),
        Place::Net(NetStep { from: None, to: id }, None),
        Place::Net(NetStep { from: None, to: id }, Some(unit(0, 5))),
        Place::Net(NetStep { from: Some(id), to: SnapshotId(9) }, None),
        Place::Net(NetStep { from: Some(SnapshotId(9)), to: id }, Some(unit(7, Cursor::ALL))),
    ]
}

fn runs(runs: u64) -> Vec<Run> {
    let run = |n| Run {
        from: Cursor::File { manifest: n, entry: 2, row: 70 },
        to: file(n, 3, if n == 1 { Cursor::ALL } else { 5 }),
    };
    (0..runs as u32).map(run).collect()
}

#[test]
fn a_token_reads_back_as_it_was_printed() {
    let ids = SeededIds::new(5);
    for groups in [1, 2, 64] {
        for n in 0..200 {
            let has_legs = n % 2 == 1;
            let mut token = Token::new(table(), ids.next_u64(), groups, Place::Origin);
            for group in 0..groups {
                let places = places();
                let place = places[(ids.next_u64() % places.len() as u64) as usize];
                let ahead = match place.is_full() {
                    true => runs(ids.next_u64() % 4),
                    false => Vec::new(),
                };
                token.set_with_ahead(group, place, ahead);
                if has_legs && !ids.next_u64().is_multiple_of(3) {
                    token.set_on_leg(group, 1 + (ids.next_u64() % 9) as u32, place);
                }
            }
            for leg in 1..ids.next_u64() as u32 % 5 * u32::from(has_legs) {
                let from = (leg > 1).then_some(SnapshotId(-7));
                let net = NetStep { from, to: SnapshotId(i64::from(leg)) };
                token.add_leg(leg, LegStart { net, time_ms: ids.next_u64() as i64 });
            }
            let token = token.covering(|group| group == 0 || !ids.next_u64().is_multiple_of(5));
            let text = token.to_string();
            assert_eq!(text.parse::<Token>().unwrap(), token, "{text}");
            assert!(text.starts_with("mw1.") || has_legs, "{text}");
            assert!(text.bytes().all(|b| b.is_ascii_graphic()), "{text}");
        }
    }
}

#[test]
fn a_token_is_small_whatever_the_table_holds() {
    let mut token = Token::new(table(), 1, 64, Place::After(SnapshotId(i64::MAX)));
    assert!(token.to_string().len() < 100);
    for group in 0..64 {
        token.set(group, Place::Within(SnapshotId(i64::MAX), file(9, u32::from(group), 12_345)));
    }
    assert!(token.to_string().len() < 4_000, "{}", token.to_string().len());
}

#[test]
fn every_changed_letter_is_noticed() {
    let mut token = Token::new(table(), 77, 64, places()[3]).with(9, places()[5]);
    token.set_with_ahead(3, places()[3], runs(2));
    let text = token.to_string();
    for at in 0..text.len() {
        for letter in ["0", "1", "f", ".", ""] {
            let changed = format!("{}{letter}{}", &text[..at], &text[at + 1..]);
            if changed == text {
                continue;
            }
            let error = changed.parse::<Token>().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{changed}");
        }
    }
    for cut in 0..text.len() {
        assert!(text[..cut].parse::<Token>().is_err());
    }
}

fn resealed(body: &str) -> String {
    format!("{body}.{:08x}", checksum(body))
}

#[test]
fn refusals_say_what_is_wrong() {
    let says = |text: &str, words: &str| {
        let error = text.parse::<Token>().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains(words), "{text}: {error}");
        assert!(error.hint().is_some());
    };
    let head = format!("mw1.{}", table().simple());
    says("", "no token");
    says("latest", "no token");
    says("mw3.anything", "another version");
    says("mw1", "another version");
    says("mw1.abc", "checksum");
    says(&resealed(&format!("{head}.9.00.64.o")), "counts files in another way");
    says(&resealed(&format!("{head}.1.00.65.o")), "out of range");
    says(&resealed(&format!("{head}.1.00.64.x1")), "no known kind");
    says(&resealed(&format!("{head}.1.00.64.w1:2")), "not the parts");
    says(&resealed(&format!("{head}.1.00.2.o,2=o")), "out of range");
    says(&resealed(&format!("{head}.1.00.2.é")), "empty");
    let head = format!("mw2.{}", table().simple());
    says(&resealed(&format!("{head}.1.00.2.")), "not the parts");
    says(&resealed(&format!("{head}.1.00.2.a1@x.")), "a leg is no number");
    says(&resealed(&format!("{head}.1.00.2.a1@2.2")), "a leg has no beginning");
    says(&resealed(&format!("{head}.1.00.2.a1@2.2=7")), "a snapshot id is no number");
    says(&resealed(&format!("{head}.1.00.2.a1@2.2=7:9:never")), "a time is no number");
}

#[test]
fn tokens_of_other_tables_and_promises_are_refused() {
    let token = Token::new(table(), 1, 64, Place::Origin);
    assert!(token.check_table(table()).is_ok());
    let error = token.check_table(Uuid::from_u128(9)).unwrap_err();
    assert!(error.to_string().contains("another table"), "{error}");
    assert!(token.check_promise(1, 64).is_ok());
    for (fingerprint, groups) in [(2, 64), (1, 1)] {
        let error = token.check_promise(fingerprint, groups).unwrap_err();
        assert!(error.to_string().contains("other options"), "{error}");
    }
    assert!(token.merge(&Token::new(table(), 2, 64, Place::Origin)).is_err());
    assert!(token.merge(&Token::new(Uuid::from_u128(9), 1, 64, Place::Origin)).is_err());
}

#[test]
fn tokens_of_lanes_merge_into_the_streams() {
    let (old, new) = (Place::After(SnapshotId(1)), Place::After(SnapshotId(2)));
    let lane = |n: u8, place| Token::new(table(), 1, 4, place).covering(|group| group % 2 == n);
    let (even, odd) = (lane(0, old), lane(1, new));
    assert!(!even.is_complete());
    let both = even.merge(&odd).unwrap();
    assert!(both.is_complete());
    assert_eq!(both, odd.merge(&even).unwrap());
    assert_eq!(both.place(0), Some(old));
    assert_eq!(both.place(3), Some(new));
    let later = both.merge(&lane(0, new)).unwrap();
    assert_eq!(later, Token::new(table(), 1, 4, new));
}

/// Lanes that went over three net differences commit when they like.
#[test]
fn tokens_of_lanes_on_different_legs_merge_with_what_lies_between() {
    let id = |n: u32| SnapshotId(i64::from(n));
    let net = |leg: u32| NetStep { from: Some(id(leg)), to: id(leg + 50) };
    let start = |leg: u32| LegStart { net: net(leg), time_ms: 7 };
    let mut stream = Token::new(table(), 1, 4, Place::After(id(9)));
    let lane = |stream: &Token, n: u8| stream.clone().covering(|group| group % 2 == n);
    let late = lane(&stream, 1);
    let mut apart = stream.clone();
    apart.set_on_leg(0, 1, Place::After(id(51)));
    apart.add_leg(1, start(1));
    assert_eq!(lane(&apart, 1), late, "where other lanes went is theirs to tell");
    for leg in 1..=3 {
        (0..4).for_each(|group| stream.set_on_leg(group, leg, Place::After(id(leg + 50))));
        stream.add_leg(leg, start(leg));
    }
    let merged = late.merge(&lane(&stream, 0)).unwrap();
    assert_eq!((merged.leg(0), merged.leg(1)), (Some(3), Some(0)));
    assert!((1..=3).all(|leg| merged.net(leg) == Some(net(leg))), "{merged}");
    let whole = merged.merge(&lane(&stream, 1)).unwrap();
    assert_eq!(whole, stream.clone().trimmed(), "nothing lies between");
    assert!((1..3).all(|leg| whole.net(leg).is_none()), "{whole}");
    // A leg that another stream reached over another difference.
    let mut other = lane(&stream, 1);
    other.add_leg(3, start(4));
    let error = lane(&stream, 0).merge(&other).unwrap_err();
    assert!(error.to_string().contains("different ways") && error.hint().is_some(), "{error}");
    for leg in 4..40 {
        (0..4).for_each(|group| stream.set_on_leg(group, leg, Place::After(id(leg + 50))));
        stream.add_leg(leg, start(leg));
    }
    assert!(stream.net(30).is_none() && stream.net(31).is_some(), "a token does not grow");
}
