//! The facts, as the tables of tab-separated values have them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use anyhow::{Context as _, Result, ensure};

/// Events of our own.
const OWN: &[&str] = &["pod_security", "seccomp_violation"];
/// What the slots of unused codes are called.
const UNUSED: &str = "NA";
/// What stands for nothing.
const NOTHING: &str = "-";

/// Falco's event schema.
pub(super) struct Facts {
    /// Events in order of code, one for each code.
    pub(super) events: Vec<Event>,
    /// Tables of flags, each in its order.
    pub(super) flags: BTreeMap<String, Vec<(String, u32)>>,
    /// System calls by their `PPM_SC` number: name, and number on x86-64.
    pub(super) syscalls: BTreeMap<u16, (String, Option<u16>)>,
    /// How events of old captures become those of today.
    pub(super) conversions: Vec<Conversion>,
    /// Names of all events, and how many codes each has.
    pub(super) types: BTreeMap<String, u32>,
}

pub(super) struct Event {
    /// Its name in the schema, without `PPME_`.
    pub(super) constant: String,
    pub(super) name: String,
    pub(super) category: Vec<String>,
    pub(super) flags: Vec<String>,
    pub(super) params: Vec<Param>,
}

impl Event {
    /// Whether the code is there only to fill its pair.
    pub(super) fn is_unused(&self) -> bool {
        self.name == UNUSED
    }
}

pub(super) struct Param {
    pub(super) name: String,
    pub(super) ty: String,
    pub(super) format: String,
    /// What stands in brackets: a table of flags, a table of variants, or another parameter.
    pub(super) detail: Option<String>,
}

pub(super) struct Conversion {
    pub(super) code: usize,
    /// How many parameters the capture has.
    pub(super) params: usize,
    pub(super) action: String,
    /// The constant of the event that it becomes, or empty.
    pub(super) becomes: String,
    /// Names of parameters, and where their values come from.
    pub(super) values: Vec<(String, String)>,
}

impl Facts {
    pub(super) fn read(dir: &Path) -> Result<Self> {
        let mut events = Vec::new();
        for row in rows(&dir.join("scap-events.tsv"))? {
            ensure!(row.cell(0)?.parse() == Ok(events.len()), "the code after {} is missing", events.len());
            events.push(event(&row)?);
        }
        let mut flags = BTreeMap::<_, Vec<_>>::new();
        for row in rows(&dir.join("scap-flags.tsv"))? {
            let flag = (row.cell(2)?.to_owned(), row.cell(3)?.parse()?);
            flags.entry(row.cell(0)?.to_owned()).or_default().push(flag);
        }
        let mut syscalls = BTreeMap::new();
        for row in rows(&dir.join("scap-syscalls.tsv"))? {
            let number = row.cell(2)?;
            let number = if number == NOTHING { None } else { Some(number.parse()?) };
            syscalls.insert(row.cell(0)?.parse()?, (row.cell(1)?.to_owned(), number));
        }
        let conversions = rows(&dir.join("scap-conversions.tsv"))?.iter().map(conversion).collect::<Result<_>>()?;
        let mut types = BTreeMap::<String, u32>::new();
        for event in events.iter().filter(|event: &&Event| !event.is_unused()) {
            *types.entry(event.name.clone()).or_default() += 1;
        }
        for (name, _) in syscalls.values() {
            types.entry(name.clone()).or_default();
        }
        types.extend(OWN.iter().map(|own| ((*own).to_owned(), 1)));
        Ok(Self { events, flags, syscalls, conversions, types })
    }

    /// Names of all parameters.
    pub(super) fn parameters(&self) -> BTreeSet<&str> {
        self.events.iter().flat_map(|event| &event.params).map(|param| param.name.as_str()).collect()
    }

    /// The number of the event type with this name.
    pub(super) fn event_type(&self, name: &str) -> Result<usize> {
        self.types.keys().position(|known| known == name).with_context(|| format!("no event type {name}"))
    }
}

fn conversion(row: &Row) -> Result<Conversion> {
    let values = row.cell(5)?.split("; ").filter(|text| !text.is_empty()).map(|text| {
        let (name, value) = text.split_once('=').with_context(|| format!("`{text}` says no value"))?;
        Ok((name.to_owned(), value.to_owned()))
    });
    Ok(Conversion {
        code: row.cell(0)?.parse()?,
        params: row.cell(2)?.parse()?,
        action: row.cell(3)?.to_owned(),
        becomes: row.cell(4)?.trim_start_matches("PPME_").to_owned(),
        values: values.collect::<Result<_>>()?,
    })
}

fn event(row: &Row) -> Result<Event> {
    let list = |cell: &str| cell.split('|').filter(|word| *word != NOTHING).map(str::to_owned).collect();
    let constant = row.cell(1)?.strip_prefix("PPME_").context("an event's constant begins with PPME_")?;
    let params = row.cells.get(7).map(String::as_str).unwrap_or_default();
    let params = params.split("; ").filter(|text| !text.is_empty()).map(param).collect::<Result<Vec<_>>>()?;
    ensure!(row.cell(6)?.parse() == Ok(params.len()), "{constant} has another number of parameters");
    Ok(Event {
        constant: constant.to_owned(),
        name: row.cell(2)?.to_owned(),
        category: list(row.cell(4)?),
        flags: list(row.cell(5)?),
        params,
    })
}

/// `name:PT_TYPE:PF_FORMAT(detail)`.
fn param(text: &str) -> Result<Param> {
    let [name, ty, format] =
        text.split(':').collect::<Vec<_>>().try_into().ok().context("a parameter has three parts")?;
    let (format, detail) = match format.split_once('(') {
        Some((format, detail)) => (format, Some(detail.trim_end_matches(')').to_owned())),
        None => (format, None),
    };
    let strip =
        |text: &str, prefix| text.strip_prefix(prefix).map(str::to_owned).context("a type or format is not one");
    Ok(Param { name: name.to_owned(), ty: strip(ty, "PT_")?, format: strip(format, "PF_")?, detail })
}

/// A row of a table.
pub(super) struct Row {
    cells: Vec<String>,
}

impl Row {
    pub(super) fn cell(&self, column: usize) -> Result<&str> {
        self.cells.get(column).map(String::as_str).with_context(|| format!("no column {column} in {:?}", self.cells))
    }
}

/// Rows of a table of tab-separated values, without comments and the header.
pub(super) fn rows(path: &Path) -> Result<Vec<Row>> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let rows = text.lines().filter(|line| !line.starts_with('#')).skip(1);
    Ok(rows.map(|line| Row { cells: line.split('\t').map(str::to_owned).collect() }).collect())
}
