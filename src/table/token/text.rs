//! Tokens as one word of ASCII: `mw1.<table>.<planner>.<fingerprint>.<groups>.<places>.<checksum>`.
//!
//! The places begin with the one that most groups share; groups elsewhere follow as
//! `,<group>=<place>`, groups that the token does not cover as `,<group>=-`. Behind the place of a
//! group stand the runs that were delivered ahead of it, `+<from>-<to>` each. The checksum is over
//! everything before its dot.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

use super::{Cursor, Inside, MAX_GROUPS, NetStep, PLANNER_VERSION, Place, Run, Token};
use crate::error::{Error, Result};
use crate::spec::SnapshotId;

const FORMAT: &str = "mw1";

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let body = self.body();
        write!(f, "{body}.{:08x}", checksum(&body))
    }
}

impl Token {
    fn body(&self) -> String {
        let (table, groups) = (self.table.simple(), self.groups());
        let common = self.common();
        let mut body = format!(
            "{FORMAT}.{table}.{PLANNER_VERSION}.{:016x}.{groups}.{}",
            self.fingerprint,
            slot(common)
        );
        for (group, place) in (0u8..).zip(&self.places) {
            let runs = self.ahead(group);
            if *place != common || !runs.is_empty() {
                let runs: String = runs.iter().map(run).collect();
                body.push_str(&format!(",{group}={}{runs}", slot(*place)));
            }
        }
        body
    }

    /// What most groups have; of several, the first in order, so that one state has one text.
    fn common(&self) -> Option<Place> {
        let mut counts: BTreeMap<Option<Place>, usize> = BTreeMap::new();
        for place in &self.places {
            *counts.entry(*place).or_default() += 1;
        }
        let most = counts.values().copied().max().unwrap_or(0);
        counts.into_iter().find(|(_, n)| *n == most).and_then(|(place, _)| place)
    }
}

/// CRC-32, for damage and not for malice.
pub(in crate::table) fn checksum(text: &str) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(text.as_bytes());
    crc.sum()
}

fn slot(place: Option<Place>) -> String {
    match place {
        None => "-".into(),
        Some(Place::Origin) => "o".into(),
        Some(Place::After(id)) => format!("a{id}"),
        Some(Place::Full(id, None)) => format!("f{id}"),
        Some(Place::Full(id, Some(inside))) => format!("f{id}:{}", point(&inside)),
        Some(Place::Within(id, inside)) => format!("w{id}:{}", point(&inside)),
        Some(Place::Net(NetStep { from, to }, inside)) => {
            let from = from.map_or("o".to_string(), |id| id.to_string());
            let inside = inside.map_or(String::new(), |inside| format!(":{}", point(&inside)));
            format!("n{from}:{to}{inside}")
        }
    }
}

fn run(run: &Run) -> String {
    format!("+{}-{}", cursor(run.from), point(&run.to))
}

fn point(inside: &Inside) -> String {
    format!("{}:{:x}", cursor(inside.cursor), inside.digest)
}

fn cursor(cursor: Cursor) -> String {
    let row = |next: u64| if next == Cursor::ALL { "*".to_string() } else { next.to_string() };
    match cursor {
        Cursor::File { manifest, entry, row: next } => format!("{manifest}:{entry}:{}", row(next)),
        Cursor::Unit { unit, ordinal } => format!("{unit}:{}", row(ordinal)),
    }
}

impl FromStr for Token {
    type Err = Error;

    /// Reads a token back, and says what is wrong with it if it cannot be read (TOK-1).
    fn from_str(text: &str) -> Result<Self> {
        let text = text.trim();
        let Some(rest) = text.strip_prefix("mw") else {
            return Err(Error::invalid("this is no token of a stream")
                .with_context("begins with", text.chars().take(8).collect::<String>())
                .with_hint("a token is one word that begins with `mw1.`"));
        };
        if !rest.starts_with("1.") {
            let version: String = rest.chars().take_while(char::is_ascii_digit).collect();
            return Err(Error::invalid("the token was written by another version of Meltwater")
                .with_context("token format", version)
                .with_context("this version reads", 1)
                .with_hint("resume with the version that wrote it, or choose a new start"));
        }
        let (body, sum) = text.rsplit_once('.').ok_or_else(|| damaged("it is cut off"))?;
        if u32::from_str_radix(sum, 16).ok() != Some(checksum(body)) || sum.len() != 8 {
            return Err(damaged("its checksum does not match: letters are missing or changed"));
        }
        parse_body(body)
    }
}

fn parse_body(body: &str) -> Result<Token> {
    let parts: Vec<&str> = body.split('.').collect();
    let [_, table, planner, fingerprint, groups, places] = parts.as_slice() else {
        return Err(damaged("it has not the parts of a token"));
    };
    let planner: u32 = planner.parse().map_err(|_| damaged("its planner version is no number"))?;
    if planner != PLANNER_VERSION {
        return Err(Error::invalid("the token counts files in another way than this version")
            .with_context("token's planner version", planner)
            .with_context("this version's", PLANNER_VERSION)
            .with_hint("resume with the version that wrote it, or choose a new start"));
    }
    let table = Uuid::try_parse(table).map_err(|_| damaged("its table is no uuid"))?;
    let fingerprint = u64::from_str_radix(fingerprint, 16)
        .map_err(|_| damaged("its fingerprint is no number"))?;
    let groups: u8 = groups.parse().map_err(|_| damaged("its group count is no number"))?;
    if !(1..=MAX_GROUPS).contains(&groups) {
        return Err(damaged("its group count is out of range"));
    }
    let mut slots = places.split(',');
    let common = parse_slot(slots.next().unwrap_or_default())?;
    let places = vec![common; usize::from(groups)];
    let mut token = Token { table, fingerprint, places, ahead: BTreeMap::new() };
    for slot in slots {
        let (group, place) = slot.split_once('=').ok_or_else(|| damaged("a group has no place"))?;
        let group: u8 = group.parse().map_err(|_| damaged("a group is no number"))?;
        let known = token.places.get_mut(usize::from(group));
        let known = known.ok_or_else(|| damaged("a group is out of range"))?;
        let mut parts = place.split('+');
        *known = parse_slot(parts.next().unwrap_or_default())?;
        let runs = parts.map(parse_run).collect::<Result<Vec<Run>>>()?;
        if !runs.is_empty() {
            if !known.is_some_and(|place| place.is_full()) {
                return Err(damaged("a place has runs ahead of it that it cannot have"));
            }
            token.ahead.insert(group, runs);
        }
    }
    Ok(token)
}

fn parse_run(text: &str) -> Result<Run> {
    let (from, to) = text.split_once('-').ok_or_else(|| damaged("a run has no end"))?;
    let from = parse_cursor(&from.split(':').collect::<Vec<_>>())?;
    Ok(Run { from, to: parse_point(&to.split(':').collect::<Vec<_>>())? })
}

fn parse_slot(text: &str) -> Result<Option<Place>> {
    let Some(kind) = text.chars().next().filter(char::is_ascii) else {
        return Err(damaged("a place is empty"));
    };
    let mut fields = text[1..].split(':');
    Ok(match kind {
        '-' => None,
        'o' => Some(Place::Origin),
        'a' => Some(Place::After(next_id(&mut fields)?)),
        'f' => {
            let id = next_id(&mut fields)?;
            let fields: Vec<&str> = fields.collect();
            let inside = (!fields.is_empty()).then(|| parse_point(&fields)).transpose()?;
            Some(Place::Full(id, inside))
        }
        'w' => {
            Some(Place::Within(next_id(&mut fields)?, parse_point(&fields.collect::<Vec<_>>())?))
        }
        'n' => {
            let from = match text.get(1..3) {
                Some("o:") => fields.next().and(None),
                _ => Some(next_id(&mut fields)?),
            };
            let to = next_id(&mut fields)?;
            let fields: Vec<&str> = fields.collect();
            let inside = (!fields.is_empty()).then(|| parse_point(&fields)).transpose()?;
            Some(Place::Net(NetStep { from, to }, inside))
        }
        _ => return Err(damaged("a place is of no known kind")),
    })
}

fn next_id<'a>(fields: &mut impl Iterator<Item = &'a str>) -> Result<SnapshotId> {
    let field = fields.next().unwrap_or_default();
    field.parse().map(SnapshotId).map_err(|_| damaged("a snapshot id is no number"))
}

fn parse_point(fields: &[&str]) -> Result<Inside> {
    let (digest, cursor) =
        fields.split_last().ok_or_else(|| damaged("a place has not the parts of one"))?;
    let cursor = parse_cursor(cursor)?;
    let digest = u64::from_str_radix(digest, 16).map_err(|_| damaged("a digest is no number"))?;
    Ok(Inside { cursor, digest })
}

fn parse_cursor(fields: &[&str]) -> Result<Cursor> {
    let number = |text: &str| text.parse().map_err(|_| damaged("an ordinal is no number"));
    let next = |text: &str| match text {
        "*" => Ok(Cursor::ALL),
        text => text.parse().map_err(|_| damaged("a row is no number")),
    };
    match fields {
        [manifest, entry, row] => {
            let (manifest, entry) = (number(manifest)?, number(entry)?);
            Ok(Cursor::File { manifest, entry, row: next(row)? })
        }
        [unit, ordinal] => Ok(Cursor::Unit { unit: number(unit)?, ordinal: next(ordinal)? }),
        _ => Err(damaged("a place has not the parts of one")),
    }
}

fn damaged(reason: &str) -> Error {
    Error::invalid(format!("the token is damaged: {reason}"))
        .with_hint("copy it again, whole; if it is lost, choose a new start")
}
