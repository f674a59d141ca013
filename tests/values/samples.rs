//! Sample values per type, as SQL expressions.

/// Statistics, since their types have no literals.
pub(super) const PREPARE: &str = "
    create table measured as select n % 5 as a, n % 5 as b from generate_series(1, 500) n;
    create statistics measured_all on a, b from measured;
    analyze measured;";

/// Row types of catalogs with an attribute of a pseudo-type, and a pseudo-type that has an array
/// type. PostgreSQL refuses them, and arrays of them, as columns.
pub(super) const WITH_PSEUDO_PARTS: [&str; 6] = [
    "cstring",
    "pg_attribute",
    "pg_statistic",
    "pg_statistic_ext_data",
    "pg_stats",
    "pg_stats_ext_exprs",
];

/// Some types that must be known before anything is loaded.
pub(super) const KNOWN_AT_ONCE: &[&str] = &[
    "bool",
    "int2",
    "int4",
    "int8",
    "float4",
    "float8",
    "numeric",
    "text",
    "varchar",
    "bpchar",
    "uuid",
    "json",
    "jsonb",
    "date",
    "timestamp",
    "timestamptz",
    "_text",
    "_int4",
    "_uuid",
    "_numeric",
    "_jsonb",
    "_timestamptz",
    "int4range",
    "tstzmultirange",
    "bytea",
    "interval",
    "inet",
    "tsvector",
    "pg_lsn",
    "_box",
    "int2vector",
    "_int2vector",
    "xid8",
];

/// Types that no expression gives a value of.
pub(super) fn unproducible(bare_name: &str) -> Option<&'static str> {
    match bare_name {
        "gtsvector" => Some("lives in index pages only"),
        "pg_brin_bloom_summary" | "pg_brin_minmax_multi_summary" => {
            Some("lives in index pages only")
        }
        _ => None,
    }
}

/// Expressions of a type that is neither array nor row type.
pub(super) fn scalars(name: &str, bare_name: &str) -> Vec<String> {
    let query = match bare_name {
        "pg_node_tree" => "(select ev_action from pg_rewrite order by oid limit 1)",
        "pg_ndistinct" => "(select stxdndistinct from pg_statistic_ext_data)",
        "pg_dependencies" => "(select stxddependencies from pg_statistic_ext_data)",
        "pg_mcv_list" => "(select stxdmcv from pg_statistic_ext_data)",
        _ => "",
    };
    if !query.is_empty() {
        return vec![query.to_owned()];
    }
    let literal = |text: &&str| format!("'{}'::{name}", text.replace('\'', "''"));
    literals(bare_name).iter().map(literal).collect()
}

fn literals(bare_name: &str) -> &'static [&'static str] {
    NUMBERS
        .iter()
        .chain(TEXTS)
        .chain(TIMES)
        .chain(PLACES)
        .chain(CATALOGS)
        .chain(RANGES)
        .find(|(name, _)| *name == bare_name)
        .map_or(&[], |(_, literals)| literals)
}

/// Expressions of an array type.
pub(super) fn arrays(name: &str, element: &str, elements: &[String]) -> Vec<String> {
    let mut arrays = vec![format!("'{{}}'::{name}")];
    // In ARRAY[…] these would be taken for arrays themselves.
    if element == "int2vector" || element == "oidvector" {
        arrays.push(format!("'{{1 2,NULL,\"\"}}'::{name}"));
        return arrays;
    }
    arrays.push(format!("array[null, {}]::{name}", elements.join(", ")));
    let (first, last) = (&elements[0], &elements[elements.len() - 1]);
    arrays.push(format!("array[[{first}, null], [{last}, {first}]]::{name}"));
    arrays.push(format!("array[[[{first}]], [[{last}]]]::{name}"));
    let bounds = if element == "box" { "" } else { "[-3:-2]=" };
    if !bounds.is_empty() && !name.contains("pg_") {
        arrays.push(format!("('{bounds}' || array[{first}, {last}]::{name}::text)::{name}"));
    }
    arrays
}

/// Expressions of a row type with these values of its attributes.
pub(super) fn rows(name: &str, parts: &[Vec<String>]) -> Vec<String> {
    let most = parts.iter().map(Vec::len).max().unwrap_or(0);
    let nulls = vec!["null"; parts.len()].join(", ");
    let mut rows = vec![format!("row({nulls})::{name}")];
    for index in 0..most.min(6) {
        let values: Vec<&str> = parts.iter().map(|v| v[index % v.len()].as_str()).collect();
        rows.push(format!("row({})::{name}", values.join(", ")));
    }
    rows
}

/// Type and literals or expressions.
pub(super) type Pool = &'static [(&'static str, &'static [&'static str])];

const NUMBERS: Pool = &[
    ("bool", &["t", "f"]),
    ("int2", &["0", "-32768", "32767"]),
    ("int4", &["0", "-2147483648", "2147483647"]),
    ("int8", &["0", "-9223372036854775808", "9223372036854775807", "9007199254740993"]),
    (
        "float4",
        &["0", "-0", "1e-45", "3.4028235e38", "0.1", "16777216", "NaN", "Infinity", "-Infinity"],
    ),
    (
        "float8",
        &[
            "0",
            "-0",
            "5e-324",
            "1.7976931348623157e308",
            "0.1",
            "1e20",
            "1e15",
            "1e16",
            "-1e-7",
            "123456789.12345679",
            "NaN",
            "Infinity",
            "-Infinity",
        ],
    ),
    (
        "numeric",
        &[
            "0",
            "0.00",
            "-1.50",
            "100",
            "1e30",
            "1e-30",
            "NaN",
            "Infinity",
            "-Infinity",
            "123456789012345678901234567890.123456789012345678901234567890",
            "1e131071",
            "1e-16383",
        ],
    ),
    ("money", &["-12.34", "92233720368547758.07"]),
    ("oid", &["0", "4294967295"]),
    ("xid", &["3", "4294967295"]),
    ("cid", &["0", "7"]),
    ("tid", &["(0,1)", "(4294967295,65535)"]),
    ("xid8", &["0", "18446744073709551615"]),
    ("pg_lsn", &["0/0", "FFFFFFFF/FFFFFFFF"]),
    ("txid_snapshot", &["10:20:10,14,15", "1:1:"]),
    ("pg_snapshot", &["10:20:10,14,15", "1:1:"]),
    ("int2vector", &["", "1", "1 -2 3"]),
    ("oidvector", &["", "1", "1 4294967295"]),
    ("bit", &["1", "0101"]),
    ("varbit", &["", "1", "0101"]),
    ("cardinal_number", &["0", "7"]),
];

const STRINGS: &[&str] = &[
    "",
    "x",
    "a\"b\\c",
    "NULL",
    "null",
    " ",
    "{a,b}",
    "(a,b)",
    "ş€😀",
    "tab\tline\nend\u{1}\u{7f}",
    "'",
    "\"\"",
];

const TEXTS: Pool = &[
    ("char", &["", "a", "\"", "\\", "\n", "\\377", ",", "("]),
    ("name", STRINGS),
    ("text", STRINGS),
    ("varchar", STRINGS),
    ("bpchar", &["", "a  ", "  ", "a\"b\\c"]),
    ("refcursor", STRINGS),
    ("bytea", &["\\x", "\\x00ff225c"]),
    ("uuid", &["00000000-0000-0000-0000-000000000000", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"]),
    ("xml", &["", "x", "<a b=\"c\">\\ &lt;&#10;</a>"]),
    (
        "json",
        &[
            " null ",
            "1",
            "-0.0e-2",
            "1.50",
            "\"\"",
            "[]",
            "{ }",
            "{\"a\":1,\"a\":2}",
            "{\"b\" : [1, {\"c\":\"\\u00e9\\ud83d\\ude00\\/\"}], \"a\\n\" : true, \"b\":[1e3]}",
            "\"\\u0000\"",
            "{\"a\":\"\\ud800\"}",
            "[1e400000]",
            "1e131071",
            "1e-16383",
            "1e131072",
            "[0e99, 0e-99, -0]",
            "[[[[]]],[{}]]",
        ],
    ),
    (
        "jsonb",
        &[
            "null",
            "1.50",
            "\"a\\\"\\\\\\u0001😀\"",
            "[]",
            "{}",
            "{\"a\": [1, null, {\"b\": 1e99}]}",
        ],
    ),
    ("jsonpath", &["$.\"a\\\"b\"[*] ? (@ > 1)", "$"]),
    ("tsvector", &["", "'a':1A 'b\\\\c''d':2,3"]),
    ("tsquery", &["", "'a' & !'b''c' <-> 'd':*A"]),
    ("character_data", STRINGS),
    ("sql_identifier", STRINGS),
    ("yes_or_no", &["YES", "NO"]),
];

const TIMES: Pool = &[
    (
        "date",
        &["2026-01-02", "infinity", "-infinity", "4713-01-01 BC", "5874897-12-31", "0044-03-15 BC"],
    ),
    ("time", &["00:00:00", "24:00:00", "04:05:06.789"]),
    ("timetz", &["04:05:06+00", "04:05:06.7+05:30", "24:00:00-15:59:59"]),
    ("timestamp", TIMESTAMPS),
    ("timestamptz", TIMESTAMPS),
    ("time_stamp", &["2026-01-02 03:04:05.12+00", "infinity"]),
    (
        "interval",
        &[
            "0",
            "1 year -2 months 3 days -04:05:06.789",
            "infinity",
            "-infinity",
            "-1 days +01:00",
            "1 month ago",
        ],
    ),
];

const TIMESTAMPS: &[&str] = &[
    "2026-01-02 03:04:05",
    "2026-01-02 03:04:05.123456",
    "infinity",
    "-infinity",
    "4713-01-01 00:00:00 BC",
    "294276-12-31 23:59:59.999999",
    "0044-03-15 01:02:03.5 BC",
    "1900-01-01 00:00:00.1",
];

const PLACES: Pool = &[
    ("point", &["(1,2)", "(1e300,-0)", "(NaN,Infinity)"]),
    ("lseg", &["[(0,0),(1,1.5)]"]),
    ("path", &["[(0,0),(1,1)]", "((0,0),(1,1))"]),
    ("box", &["(1,1),(0,0)", "(3,4),(1,2)"]),
    ("polygon", &["((0,0),(1,1),(2,0))"]),
    ("line", &["{1,2,3}"]),
    ("circle", &["<(1,2),3>"]),
    ("cidr", &["10.0.0.0/8", "2001:db8::/32"]),
    ("inet", &["10.0.0.1", "10.0.0.1/8", "::1", "2001:db8::1/64"]),
    ("macaddr", &["08:00:2b:01:02:03"]),
    ("macaddr8", &["08:00:2b:01:02:03:04:05"]),
];

const CATALOGS: Pool = &[
    ("aclitem", &["=r/pg_monitor", "pg_monitor=arw*/pg_monitor"]),
    ("regproc", &["-", "pg_catalog.now", "4000000000"]),
    ("regprocedure", &["-", "now()", "format(text,\"any\")"]),
    ("regoper", &["0", "pg_catalog.||/", "96"]),
    ("regoperator", &["0", "=(integer,integer)"]),
    ("regclass", &["-", "pg_class", "information_schema.tables"]),
    ("regtype", &["-", "integer", "\"char\"", "timestamp with time zone", "integer[]"]),
    ("regconfig", &["-", "simple", "english"]),
    ("regdictionary", &["-", "simple"]),
    ("regnamespace", &["-", "pg_catalog"]),
    ("regrole", &["-", "pg_monitor"]),
    ("regcollation", &["-", "\"C\""]),
];

const RANGES: Pool = &[
    ("int4range", &["empty", "[1,10)", "(,)"]),
    ("int8range", &["empty", "[1,10)", "(,5)"]),
    ("numrange", &["empty", "[1.50,Infinity]", "(1.5,)"]),
    ("tsrange", &["empty", "[2026-01-02 03:04:05,infinity]"]),
    ("tstzrange", &["empty", "[2026-01-02 03:04:05,2026-01-03 00:00)"]),
    ("daterange", &["empty", "[2026-01-02,2026-02-03)", "[0044-03-15 BC,)"]),
    ("int4multirange", &["{}", "{[1,2),[5,)}"]),
    ("int8multirange", &["{}", "{[1,2),[5,)}"]),
    ("nummultirange", &["{}", "{[1.5,2),[5,)}"]),
    ("tsmultirange", &["{}", "{[2026-01-02 03:04:05,2026-01-03 00:00)}"]),
    ("tstzmultirange", &["{}", "{[2026-01-02 03:04:05,2026-01-03 00:00)}"]),
    ("datemultirange", &["{}", "{[2026-01-02,2026-02-03),[2027-01-01,)}"]),
];
