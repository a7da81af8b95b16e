//! The command line as its users meet it: output, JSON, exit codes, memory.

use std::collections::BTreeSet;
use std::process::{Command, Output};

use serde_json::Value;

/// `tospace ARGS`, under the emulator that cargo runs this test with, if any.
fn tospace(arguments: &[&str]) -> Output {
    tospace_debugging("", arguments)
}

/// With debug modes in the environment.
fn tospace_debugging(modes: &str, arguments: &[&str]) -> Output {
    let binary = env!("CARGO_BIN_EXE_tospace");
    let triple = format!("{}_unknown_linux_gnu", std::env::consts::ARCH).to_uppercase();
    let runner = std::env::var(format!("CARGO_TARGET_{triple}_RUNNER")).unwrap_or_default();
    let mut words = runner.split_whitespace().chain([binary]);
    let mut command = Command::new(words.next().expect("the binary at least"));
    command.args(words).args(arguments).env("TOSPACE_DEBUG", modes);
    command.output().expect("it starts")
}

fn json(arguments: &[&str]) -> Value {
    let output = tospace(arguments);
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{arguments:?}: {error}"))
}

/// Exit code and what was said; nothing may be on standard output.
fn failure(arguments: &[&str]) -> (i32, String) {
    let output = tospace(arguments);
    assert!(output.stdout.is_empty(), "{arguments:?} printed {:?}", output.stdout);
    let code = output.status.code().expect("it exits, no signal ends it");
    (code, String::from_utf8(output.stderr).expect("text"))
}

/// What every run reports. Time differs from run to run, the rest does not.
const TIMES: [&str; 6] =
    ["wall_ns", "total_ns", "mutator_ns", "gc_ns", "max_pause_ns", "compile_ns"];
const EXACT: [&str; 19] = [
    "workload",
    "target",
    "collector",
    "params",
    "heap_bytes",
    "result",
    "collections",
    "allocated_objects",
    "allocated_bytes",
    "copied_bytes",
    "copied_objects",
    "frames_walked",
    "slots_visited",
    "live_bytes_last",
    "live_bytes_sum",
    "fragmentation_bytes_sum",
    "peak_heap_bytes",
    "code_bytes",
    "stack_map_bytes",
];

fn exact(run: &Value) -> Vec<&Value> {
    EXACT
        .iter()
        .map(|field| run.get(field).unwrap_or_else(|| panic!("no {field}: {run}")))
        .collect()
}

#[test]
fn a_run_reports_every_field_and_repeats_exactly() {
    for collector in ["semispace", "mark-sweep", "never-free"] {
        let arguments =
            ["run", "gcbench", "--quick", "--collector", collector, "--json", "--count"];
        let (first, second) = (json(&arguments), json(&arguments));
        assert_eq!(exact(&first), exact(&second));
        assert_eq!(first["collector"], collector);
        assert_eq!(first["params"]["stretch"], 14);
        assert!(first["target"].as_str().unwrap().starts_with(std::env::consts::ARCH));
        for time in TIMES {
            assert!(first[time].as_u64().is_some(), "{time} of {first}");
        }
        let time = |name: &str| first[name].as_u64().unwrap();
        assert!(time("wall_ns") > 0 && time("total_ns") > 0 && time("compile_ns") > 0);
        assert_eq!(time("mutator_ns") + time("gc_ns"), time("total_ns"));
        assert!(time("max_pause_ns") <= time("gc_ns"));
        if collector != "never-free" {
            assert!(time("collections") > 0 && time("gc_ns") > 0 && time("max_pause_ns") > 0);
            assert!(time("frames_walked") > 0 && time("slots_visited") > 0);
            assert!(time("live_bytes_last") <= time("live_bytes_sum"));
        }
        assert_eq!(time("copied_objects") > 0, collector == "semispace");
        assert_eq!(time("copied_bytes") > 0, collector == "semispace");
    }
}

#[test]
fn counting_changes_no_counter() {
    let plain = json(&["run", "deep", "--quick", "--json"]);
    let counted = json(&["run", "deep", "--quick", "--json", "--count"]);
    assert!(plain["allocated_objects"].is_null());
    assert!(counted["allocated_objects"].as_u64().unwrap() > 0);
    for field in EXACT {
        // Counting is code.
        if !["allocated_objects", "code_bytes"].contains(&field) {
            assert_eq!(plain[field], counted[field], "{field}");
        }
    }
}

#[test]
fn a_repeated_run_lists_all() {
    let report = json(&["run", "list", "--quick", "--json", "--repeat", "3"]);
    let runs = report["runs"].as_array().expect("a list of runs");
    assert_eq!(runs.len(), 3);
    for run in runs {
        assert_eq!(exact(run), exact(&report));
    }
    for time in TIMES {
        assert_eq!(report[time], runs[2][time], "the top level is the last run: {time}");
    }
    assert!(json(&["run", "list", "--quick", "--json"]).get("runs").is_none());
}

#[test]
fn results_do_not_depend_on_collector_heap_or_stress() {
    for workload in ["binary-trees", "gcbench", "list", "deep"] {
        let tiny: &[&str] = match workload {
            "binary-trees" => &["depth=6"],
            "gcbench" => &["stretch=8", "long_lived=6", "array=500", "max=6"],
            "list" => &["nodes=500", "rounds=3"],
            _ => &["depth=40"],
        };
        let mut seen = BTreeSet::new();
        for collector in ["semispace", "mark-sweep", "never-free"] {
            for (heap, stress) in [("256K", "0"), ("3M", "0"), ("3M", "1"), ("3M", "7")] {
                let heap = if collector == "never-free" { "3M" } else { heap };
                let mut arguments = vec!["run", workload, "--json", "--count", "--heap", heap];
                arguments.extend(["--stress", stress, "--collector", collector]);
                arguments.extend(tiny.iter().flat_map(|setting| ["--param", setting]));
                let run = json(&arguments);
                if stress == "1" {
                    assert_eq!(run["collections"], run["allocated_objects"]);
                }
                let [result, objects, bytes] = ["result", "allocated_objects", "allocated_bytes"]
                    .map(|name| run[name].as_i64());
                seen.insert((result.unwrap(), objects.unwrap(), bytes.unwrap()));
            }
        }
        assert_eq!(seen.len(), 1, "{workload}: {seen:?}");
    }
}

#[test]
fn debug_modes_change_no_counter() {
    for collector in ["semispace", "mark-sweep", "never-free"] {
        let arguments = ["run", "deep", "--param", "depth=200", "--json", "--collector", collector];
        let plain = json(&arguments);
        for mode in [&["--protect"][..], &["--verify"], &["--protect", "--verify"]] {
            let debugged = json(&[&arguments[..], mode].concat());
            for field in EXACT {
                // Fresh spaces are touched one after the other.
                if field != "peak_heap_bytes" {
                    assert_eq!(plain[field], debugged[field], "{collector} {mode:?} {field}");
                }
            }
        }
    }
}

#[test]
fn a_heap_too_small_is_an_error_with_numbers() {
    for collector in ["semispace", "mark-sweep", "never-free"] {
        let arguments =
            ["run", "list", "--quick", "--heap", "128K", "--json", "--collector", collector];
        let (code, message) = failure(&arguments);
        assert_eq!(code, 1, "{message}");
        for part in ["heap full", "24 bytes asked", "free of 131072", "live", "in count_down"] {
            assert!(message.contains(part), "`{part}` is not in: {message}");
        }
    }
    // Under a multiple too.
    let (code, message) = failure(&["run", "list", "--quick", "--heap", "1.5x"]);
    assert!(code == 1 && message.contains("heap full"), "{message}");
}

#[test]
fn what_is_not_known_is_an_error_that_lists_what_is() {
    for (arguments, parts) in [
        (&["run", "lisp"][..], &["`lisp`", "binary-trees, gcbench, list, deep"][..]),
        (&["compare", "lisp"], &["`lisp`", "binary-trees, gcbench, list, deep"]),
        (&["run", "list", "--collector", "marksweep"], &["semispace, mark-sweep, never-free"]),
        (&["run", "list", "--param", "size=3"], &["`size`", "nodes, rounds"]),
        (&["run", "list", "--param", "nodes=0"], &["nodes is from 1 to 100000000, not 0"]),
        (&["run", "deep", "--param", "depth=1000001"], &["depth is from 1 to 1000000"]),
        (&["run", "list", "--param", "nodes"], &["NAME=VALUE"]),
        (&["run", "list", "--param", "nodes=-1"], &["`-1` is no number"]),
        (&["run", "list", "--heap", "12q"], &["`12q` is no heap size", "64M"]),
        (&["run", "list", "--heap", "0"], &["0 bytes", "65536"]),
        (
            &["run", "list", "--heap", "90000G"],
            &["96636764160000", "beyond this machine", "tospace run"],
        ),
        (&["run", "list", "--repeat", "0"], &["--repeat"]),
        (&["run"], &["WORKLOAD"]),
        (&["experiment", "none"], &["malloc"]),
        (&["bogus"], &["bogus"]),
    ] {
        let (code, message) = failure(arguments);
        assert_eq!(code, 2, "{arguments:?}: {message}");
        for part in parts {
            assert!(message.contains(part), "{arguments:?}: `{part}` is not in: {message}");
        }
    }
}

#[test]
fn the_list_names_every_workload() {
    let list = json(&["list", "--json"]);
    let names: Vec<&str> =
        list.as_array().unwrap().iter().map(|w| w["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["binary-trees", "gcbench", "list", "deep"]);
    let table = String::from_utf8(tospace(&["list"]).stdout).unwrap();
    for workload in list.as_array().unwrap() {
        assert!(table.contains(workload["name"].as_str().unwrap()));
        for param in workload["params"].as_array().unwrap() {
            let shown = format!("{} {}", param["name"].as_str().unwrap(), param["default"]);
            assert!(table.contains(&shown), "{shown} is not in:\n{table}");
        }
    }
}

#[test]
fn a_comparison_covers_every_collector_and_heap() {
    let heaps = ["--heap", "1.5x,3x"];
    let entries = json(
        &[&["compare", "list", "deep", "--quick", "--rounds", "2", "--json"], &heaps[..]].concat(),
    );
    let entries = entries.as_array().unwrap();
    assert_eq!(entries.len(), 2 * (2 * 2 + 1));
    for entry in entries {
        let fits = entry["fits"].as_bool().unwrap();
        let runs = entry["runs"].as_array().unwrap();
        assert_eq!(runs.len(), if fits { 2 } else { 0 });
        if entry["collector"] == "semispace" {
            assert_eq!(fits, entry["heap"] != "1.5x" || entry["workload"] == "deep", "{entry}");
        }
        for run in runs {
            assert_eq!(exact(run), exact(&runs[0]));
            assert_eq!(run["collector"], entry["collector"]);
        }
    }
    let table = tospace(&["compare", "list", "--quick", "--rounds", "1", "--heap", "1.5x,3x"]);
    let table = String::from_utf8(table.stdout).unwrap();
    assert_eq!(table.lines().count(), 4, "a header, a rule, two heaps:\n{table}");
    assert!(table.contains("does not fit"), "{table}");
    let counters = tospace(&["compare", "list", "--quick", "--counters", "--heap", "3x"]);
    let counters = String::from_utf8(counters.stdout).unwrap();
    assert!(!counters.contains("ms"), "no times among the counters:\n{counters}");
    assert_eq!(counters.lines().count(), 5);
}

/// The process needs the heap and a little more; what a collector says that it used, it touched.
#[test]
fn resident_memory_confirms_the_heaps_size() {
    // Cranelift, the code, the stack; the emulator's own memory under emulation.
    const REST: u64 = 64 << 20;
    for collector in ["semispace", "mark-sweep"] {
        let base = ["run", "binary-trees", "--param", "depth=14", "--heap", "256M", "--json"];
        let touched = json(&[&base[..], &["--collector", collector]].concat());
        let cold = json(&[&base[..], &["--collector", collector, "--cold"]].concat());
        let field = |run: &Value, name: &str| run[name].as_u64().unwrap();
        let (heap, used) = (field(&touched, "heap_bytes"), field(&touched, "peak_heap_bytes"));
        assert_eq!(heap, 256 << 20);
        assert!(used <= heap);
        assert_eq!(field(&cold, "peak_heap_bytes"), used);

        let (all, part) = (field(&touched, "peak_rss_bytes"), field(&cold, "peak_rss_bytes"));
        assert!(heap * 98 / 100 <= all && all <= heap + REST, "{collector}: {all} of {heap}");
        // The heap is larger than the run needs: what was not used was not touched.
        assert!(used < heap / 2, "{collector}: {used}");
        assert!(used * 98 / 100 <= part && part <= used + REST, "{collector}: {part} for {used}");
    }
}

#[test]
fn debug_modes_of_the_environment() {
    let run = ["run", "list", "--quick", "--json", "--param", "nodes=50"];
    let plain = json(&run);
    assert_eq!((&plain["collections"], &plain["missed_roots"]), (&0.into(), &Value::Null));
    let output = tospace_debugging("stress=1, verify,protect,missed-roots", &run);
    let debugged: Value = serde_json::from_slice(&output.stdout).expect("a run");
    assert_eq!(debugged["collections"], 50 * 11);
    assert_eq!(debugged["result"], plain["result"]);
    assert!(debugged["missed_roots"].is_array(), "{debugged}");
    for wrong in ["stress", "stress=often", "verfy", "stress=1;verify"] {
        let output = tospace_debugging(wrong, &run);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let said = String::from_utf8(output.stderr).expect("text");
        assert!(said.contains("is no debug mode: TOSPACE_DEBUG is a list of"), "{said}");
    }
}
