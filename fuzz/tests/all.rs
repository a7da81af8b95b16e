//! The tests of the fuzz target, and a few thousand of its programs.

use std::collections::BTreeMap;
use std::process::{Command, Output};

use fuzz::choices::{Choices, seed, shrink};
use fuzz::generate::generate;
use fuzz::interpret::{Expected, Failure, interpret};
use fuzz::model::Value;
use fuzz::program::{Entry, Expr, Function, NODE, Op, Program, Shape, Stmt, Storage, Type};
use fuzz::run::{Configuration, Counts, run};

/// How many programs there are for each test of programs: fewer on a slow machine.
fn programs() -> u64 {
    std::env::var("FUZZ_PROGRAMS").map_or(3000, |number| number.parse().expect("a number"))
}

fn program(number: u64) -> Program {
    generate(&mut Choices::random(seed(1, number)))
}

/// Runs programs, each under one configuration. The fuzz command runs them under several.
fn run_programs(numbers: impl Iterator<Item = u64>) -> Counts {
    let configurations = Configuration::all();
    let mut counts = Counts::default();
    for number in numbers {
        let program = program(number);
        let configuration = configurations[number as usize % configurations.len()];
        match run(&program, &interpret(&program), configuration) {
            Ok(more) => counts += Counts { programs: 1, ..more },
            Err(what) => panic!("program {number} under {configuration}: {what}\n\n{program}"),
        }
    }
    counts
}

fn assert_enough(counts: Counts) {
    assert!(counts.misfits * 50 <= counts.programs, "{counts}");
    assert!(counts.runs >= 3 * (counts.programs - counts.misfits), "{counts}");
    for per_program in [counts.calls, counts.collections, counts.slots, counts.copied] {
        assert!(per_program > 100 * counts.programs, "{counts}");
    }
}

// Two, for two processors.

#[test]
fn programs_do_what_the_interpreter_says() {
    assert_enough(run_programs(0..programs() / 2));
}

#[test]
fn more_programs_do_what_the_interpreter_says() {
    assert_enough(run_programs(programs() / 2..programs()));
}

/// Each of some programs under every collector, in every mode, optimised and not.
#[test]
fn programs_under_every_configuration() {
    for number in 0..programs().div_ceil(50) {
        let program = program(100_000 + number);
        let expected = interpret(&program);
        for configuration in Configuration::all() {
            if let Err(what) = run(&program, &expected, configuration) {
                panic!("program {number} under {configuration}: {what}\n\n{program}");
            }
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_programs_and_counts() {
    assert_eq!(program(7), program(7));
    assert_ne!(program(7), program(8));
    assert_eq!(run_programs(0..16), run_programs(0..16));
}

#[test]
fn the_same_choices_give_the_same_program() {
    for number in 0..50 {
        let mut choices = Choices::random(seed(1, number));
        let program = generate(&mut choices);
        let taken = choices.taken();
        assert_eq!(generate(&mut Choices::given(&taken)), program);
        // Any other sequence gives some program.
        interpret(&generate(&mut Choices::given(&taken[taken.len() / 3..])));
    }
    let smallest = generate(&mut Choices::given(&[]));
    assert_eq!(smallest.functions.len(), 1);
    assert_eq!(smallest.functions[0].body, [Stmt::Return(vec![Expr::Null(NODE)])]);
}

/// What occurs in the programs of some hundred seeds: kinds of statements and expressions that were
/// executed, callees, outcomes.
fn executed() -> BTreeMap<&'static str, u64> {
    let mut executed = BTreeMap::new();
    for number in 0..500 {
        for (kind, count) in interpret(&program(number)).executed {
            *executed.entry(kind).or_default() += count;
        }
    }
    executed
}

#[test]
fn every_kind_of_statement_expression_callee_and_trap_is_executed() {
    let statements = [
        "set",
        "let",
        "set global",
        "set field",
        "set element",
        "observe",
        "if",
        "loop",
        "while",
        "call",
        "try call",
        "catch",
        "collect",
        "throw",
        "return",
        "tail call",
    ];
    let expressions = [
        "constant",
        "local",
        "bound",
        "global",
        "binary",
        "make",
        "sum",
        "to int",
        "null",
        "new record",
        "new array",
        "field",
        "element",
        "number",
        "length",
        "is null",
        "is same",
        "select",
        "or",
        "call in an expression",
    ];
    let callees = [
        "direct",
        "indirect",
        "host link",
        "host walk",
        "host call back",
        "host fail",
        "host churn",
    ];
    let traps = [
        "trap: null reference",
        "trap: index out of bounds",
        "trap: division by zero",
        "trap: integer overflow",
        "trap: uncaught",
        "trap: host",
    ];
    let executed = executed();
    let all = statements.iter().chain(&expressions).chain(&callees).chain(&traps);
    for kind in all.clone() {
        assert!(executed.get(kind).is_some_and(|&count| count >= 2), "{kind}: {executed:#?}");
    }
    assert_eq!(executed.len(), all.count(), "kinds that this test does not know: {executed:#?}");
}

#[test]
fn objects_of_all_sorts_are_allocated() {
    let mut occurs = BTreeMap::new();
    for number in 0..300 {
        let program = program(number);
        let model = interpret(&program).model;
        for object in 0..model.count() {
            let sort = match &program.shapes[model.shape(object)] {
                Shape::Array(Storage::Ref(_)) => "an array of references".to_owned(),
                Shape::Array(Storage::Scalar(scalar)) => format!("an array of {scalar:?}"),
                // A header describes a record of up to 24 words.
                Shape::Record(fields) if fields.len() > 24 => "a large record".to_owned(),
                Shape::Record(_) => "a record".to_owned(),
            };
            *occurs.entry(sort).or_insert(0) += 1;
        }
    }
    assert_eq!(occurs.len(), 11, "{occurs:#?}");
}

#[test]
fn what_fails_is_shrunk_to_something_small() {
    let throws = |choices: &[u32]| {
        let expected = interpret(&generate(&mut Choices::given(choices)));
        expected.executed.contains_key("throw")
    };
    let mut random = (0..).map(|number| {
        let mut choices = Choices::random(seed(1, number));
        generate(&mut choices);
        choices.taken()
    });
    let large = random.find(|choices| choices.len() > 1000 && throws(choices));
    let small = shrink(&large.expect("one of many"), 20_000, throws);
    assert!(throws(&small), "{small:?}");
    let program = generate(&mut Choices::given(&small));
    let statements: usize = program.functions.iter().map(|function| function.body.len()).sum();
    assert!(statements <= 2 * program.functions.len(), "{program}");
    let choices_made = small.iter().filter(|&&choice| choice > 0).count();
    assert!(choices_made < 60, "{choices_made} choices that are not 0: {program}");
    // Nothing that could be left out at the end.
    assert!(!throws(&small[..small.len() - 1]));
}

/// A program of one function with these variables besides the depth and a node.
fn one_function(locals: &[Type], body: Vec<Stmt>) -> Program {
    let params = vec![Type::Int, Type::Ref(NODE)];
    let locals = [&params[..], locals].concat();
    let results = vec![Type::Ref(NODE)];
    let entry = Entry { function: 0, numbers: vec![3, 0] };
    Program {
        shapes: vec![Shape::Record(fuzz::program::NODE_FIELDS.to_vec())],
        globals: Vec::new(),
        functions: vec![Function { params, results, locals, body }],
        entries: vec![entry.clone(), entry],
        fuel: 100,
    }
}

fn check(program: &Program) -> Expected {
    let expected = interpret(program);
    for configuration in Configuration::all() {
        run(program, &expected, configuration).expect("it does what the interpreter says");
    }
    expected
}

#[test]
fn a_list_that_is_known() {
    // for v2 below 5 { v1 = node{v1, null, v2 * v2}; observe v1.2 }; return v1
    let int = |value| Box::new(Expr::Local(value));
    let fields = vec![Expr::Local(1), Expr::Null(NODE), Expr::Binary(Op::Multiply, int(2), int(2))];
    let turn = vec![
        Stmt::Set(1, Expr::New(NODE, fields)),
        Stmt::Observe(Expr::Field(NODE, 2, Box::new(Expr::Local(1)))),
    ];
    let body = vec![Stmt::Loop(2, Expr::Const(5), turn), Stmt::Return(vec![Expr::Local(1)])];
    let expected = check(&one_function(&[Type::Int], body));
    let trace = |before: i64| [0, 1, 4, 9, 16].iter().fold(before, |trace, next| trace * 31 + next);
    // The second call goes on with the list of the first.
    for (index, trace) in [trace(0), trace(trace(0))].into_iter().enumerate() {
        let last = Value::Ref(Some(5 * index + 4));
        assert_eq!(expected.entries[index].results, Ok(vec![last]));
        assert_eq!(expected.entries[index].trace, trace);
    }
    assert_eq!(expected.model.values(5)[0], Value::Ref(Some(4)));
    assert_eq!((expected.model.count(), expected.model.bytes), (10, 400));
}

#[test]
fn traps_that_are_known() {
    let seven_by = |divisor| {
        let divided = Expr::Binary(Op::Divide, Box::new(Expr::Const(7)), Box::new(divisor));
        vec![Stmt::Observe(divided), Stmt::Return(vec![Expr::Local(1)])]
    };
    let null = || Box::new(Expr::Null(NODE));
    let node = || Expr::New(NODE, vec![Expr::Null(NODE), Expr::Null(NODE), Expr::Const(1)]);
    for (body, failure) in [
        (seven_by(Expr::Const(0)), Failure::DivisionByZero),
        (seven_by(Expr::Number(NODE, null())), Failure::NullReference),
        (vec![Stmt::Throw(node())], Failure::Uncaught),
    ] {
        let expected = check(&one_function(&[], body));
        assert_eq!(expected.entries[1].results, Err(failure));
    }
}

#[test]
fn a_wrong_expectation_is_a_finding() {
    let program = program(3);
    let configuration = Configuration::all()[0];
    let findings = |change: &dyn Fn(&mut Expected)| {
        let mut expected = interpret(&program);
        change(&mut expected);
        run(&program, &expected, configuration).expect_err("it differs")
    };
    let trace = findings(&|expected| expected.entries[0].trace += 1);
    assert!(trace.contains("trace"), "{trace}");
    let count = findings(&|expected| expected.compiled_allocations += 1);
    assert!(count.contains("objects, not"), "{count}");
    let bytes = findings(&|expected| expected.model.bytes += 8);
    assert!(bytes.contains("bytes, not"), "{bytes}");
    let result = findings(&|expected| expected.entries[0].results = Err(Failure::NullReference));
    assert!(result.contains("expected Err(NullReference)"), "{result}");
}

/// `fuzz ARGS`, under the emulator that cargo runs this test with, if any.
fn fuzz(arguments: &[&str]) -> Output {
    let binary = env!("CARGO_BIN_EXE_fuzz");
    let triple = format!("{}_unknown_linux_gnu", std::env::consts::ARCH).to_uppercase();
    let runner = std::env::var(format!("CARGO_TARGET_{triple}_RUNNER")).unwrap_or_default();
    let mut words = runner.split_whitespace().chain([binary]);
    let mut command = Command::new(words.next().expect("the binary at least"));
    command.args(words).args(arguments).output().expect("it starts")
}

/// A fault has to be found within these programs: on this project's machines, within seconds.
const PROGRAMS: &str = "--programs=300";

fn finds(fault: &str) {
    let output = fuzz(&[PROGRAMS, "--configurations=1", "--trials=40", "--fault", fault]);
    let text = String::from_utf8(output.stdout).expect("text");
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("\nfinding: program ") && text.contains("\nfuzz --replay '"), "{text}");
}

#[test]
fn a_slot_that_is_skipped_is_found() {
    finds("skip-slot");
}

#[test]
fn a_span_that_is_off_is_found() {
    finds("span-off");
}

#[test]
fn activations_that_are_forgotten_are_found() {
    finds("forget-activations");
}

#[test]
fn handles_that_are_forgotten_are_found() {
    finds("forget-handles");
}

#[test]
fn objects_that_are_forwarded_twice_are_found() {
    finds("forward-twice");
}

#[test]
fn references_that_are_not_reloaded_are_found() {
    finds("no-reload");
}

#[test]
fn layouts_that_are_taken_for_others_are_found() {
    finds("wrong-layout");
}

#[test]
fn without_a_fault_nothing_is_found() {
    for collector in ["semispace", "textbook"] {
        let output = fuzz(&["--programs=20", "--jobs=2", "--collector", collector]);
        let text = String::from_utf8(output.stdout).expect("text");
        assert_eq!(output.status.code(), Some(0), "{text}");
        assert!(text.starts_with("20 programs"), "{text}");
    }
}

#[test]
fn what_makes_no_sense_is_refused() {
    for arguments in [
        &["--configurations=0"][..],
        &["--jobs=0"],
        &["--replay", "1 x 2"],
        &["--fault=skip-slot", "--collector=never-free"],
        &["--fault=wrong-layout", "--collector=semispace"],
        &["--fault=unheard-of"],
        &["--table", "--seconds=1"],
    ] {
        let output = fuzz(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {output:?}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{arguments:?}");
    }
}
