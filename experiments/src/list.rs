//! `tospace list`.

use anyhow::Result;
use comfy_table::{Table, presets::ASCII_MARKDOWN};
use serde_json::json;
use tospace::workloads;

use crate::cli::ListArgs;
use crate::print;

pub fn list(arguments: &ListArgs) -> Result<()> {
    if arguments.json {
        return print(format_args!("{:#}", as_json()));
    }
    let mut table = Table::new();
    table.load_preset(ASCII_MARKDOWN).set_header(["workload", "stresses", "parameters (quick)"]);
    for workload in workloads::ALL {
        let params = workload.params.iter().map(|param| {
            let (least, most) = (param.range.start(), param.range.end());
            format!("{} {} ({}), {least} to {most}", param.name, param.default, param.quick)
        });
        table.add_row([workload.name, workload.stresses, &params.collect::<Vec<_>>().join("; ")]);
    }
    print(table)
}

fn as_json() -> serde_json::Value {
    let workloads = workloads::ALL.map(|workload| {
        let params: Vec<_> = workload
            .params
            .iter()
            .map(|param| {
                json!({
                    "name": param.name,
                    "default": param.default,
                    "quick": param.quick,
                    "least": param.range.start(),
                    "most": param.range.end(),
                })
            })
            .collect();
        json!({ "name": workload.name, "stresses": workload.stresses, "params": params })
    });
    json!(workloads)
}
