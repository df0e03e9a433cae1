//! The charts: ratios by row, and the latency of the long overwrite.

use super::{Document, rows_of};
use crate::engines;
use plotters::prelude::*;
use std::path::Path;

const COLOURS: [RGBColor; 3] =
    [RGBColor(46, 125, 50), RGBColor(69, 90, 160), RGBColor(200, 120, 40)];

/// Writes `ratios.svg` and, if the row was run, `latency.svg`.
///
/// # Errors
/// A file cannot be written.
pub(crate) fn write(document: &Document, directory: &Path) -> Result<(), String> {
    let say = |error: &dyn std::fmt::Display| format!("{}: {error}", directory.display());
    std::fs::create_dir_all(directory).map_err(|error| say(&error))?;
    ratios(document, &directory.join("ratios.svg")).map_err(|error| say(&error))?;
    if !document.rounds_of("overwrite_long", "treering").is_empty() {
        latency(document, &directory.join("latency.svg")).map_err(|error| say(&error))?;
    }
    Ok(())
}

type Drawn = Result<(), Box<dyn std::error::Error>>;

fn ratios(document: &Document, path: &Path) -> Drawn {
    let rows = rows_of(document);
    let bars: Vec<(&str, f64, Option<f64>)> = rows
        .iter()
        .filter(|row| row.measures_throughput())
        .filter_map(|row| {
            let ratio = document.ratio(row.name, "rocksdb")?;
            let fjall = document.throughput(row.name, "fjall");
            let rocks = document.throughput(row.name, "rocksdb")?;
            Some((row.name, ratio, fjall.map(|fjall| fjall.median / rocks.median)))
        })
        .collect();
    let height = 90 + 26 * bars.len() as u32;
    let area = SVGBackend::new(path, (900, height)).into_drawing_area();
    area.fill(&WHITE)?;
    let most = bars.iter().map(|(_, ratio, _)| *ratio).fold(4.0, f64::max) * 1.3;
    let least = bars.iter().filter_map(|(_, _, fjall)| *fjall).fold(0.5, f64::min) * 0.8;
    let mut chart = ChartBuilder::on(&area)
        .caption("Operations per second, as a multiple of RocksDB's", ("sans-serif", 20))
        .margin(10)
        .x_label_area_size(30)
        .y_label_area_size(210)
        .build_cartesian_2d((least..most).log_scale(), 0.0..bars.len() as f64)?;
    let label = |at: &f64| {
        let index = bars.len() as f64 - at - 0.5;
        let is_middle = (index - index.round()).abs() < 0.01 && index >= -0.01;
        let name = is_middle.then(|| bars.get(index.round() as usize)).flatten();
        name.map_or(String::new(), |(name, ..)| (*name).to_owned())
    };
    chart
        .configure_mesh()
        .disable_y_mesh()
        .disable_y_axis()
        .y_labels(0)
        .y_label_formatter(&label)
        .x_label_formatter(&|x| format!("{x:.1}x"))
        .draw()?;
    let name_style = ("sans-serif", 14).into_font().color(&BLACK);
    for (index, (name, ratio, fjall)) in bars.iter().enumerate() {
        let top = (bars.len() - index) as f64;
        let bar = |low: f64, high: f64, value: f64, colour: RGBColor| {
            Rectangle::new([(1.0, top - high), (value, top - low)], colour.filled())
        };
        chart.draw_series([bar(0.15, 0.6, *ratio, COLOURS[0])])?;
        if let Some(fjall) = fjall {
            chart.draw_series([bar(0.62, 0.85, *fjall, COLOURS[2])])?;
        }
        let text = Text::new(format!("{ratio:.1}"), (ratio * 1.02, top - 0.15), name_style.clone());
        chart.draw_series([text])?;
        let (x, y) = chart.backend_coord(&(least, top - 0.2));
        area.draw(&Text::new((*name).to_owned(), (x - 205, y), name_style.clone()))?;
    }
    chart.draw_series(LineSeries::new([(1.0, 0.0), (1.0, bars.len() as f64)], &COLOURS[1]))?;
    let legend = "green: Treering   orange: fjall   blue line: RocksDB";
    area.draw(&Text::new(legend, (230, height as i32 - 18), name_style))?;
    area.present()?;
    Ok(())
}

fn latency(document: &Document, path: &Path) -> Drawn {
    let area = SVGBackend::new(path, (900, 420)).into_drawing_area();
    area.fill(&WHITE)?;
    let names = ["p50", "p99", "p99.9", "p99.99", "longest"];
    let lines: Vec<(usize, Vec<f64>)> = engines::NAMES
        .iter()
        .enumerate()
        .filter_map(|(index, engine)| {
            let of = |figure: fn(&crate::measure::Latency) -> u64| {
                let spread =
                    document.spread("overwrite_long", engine, |m| figure(&m.latency) as f64 / 1e3);
                spread.map(|spread| spread.median.max(0.1))
            };
            let points =
                [of(|l| l.p50), of(|l| l.p99), of(|l| l.p999), of(|l| l.p9999), of(|l| l.max)];
            Some((index, points.into_iter().collect::<Option<Vec<f64>>>()?))
        })
        .collect();
    let most = lines.iter().flat_map(|(_, line)| line).fold(10.0_f64, |a, b| a.max(*b)) * 2.0;
    let mut chart = ChartBuilder::on(&area)
        .caption("Latency of puts while overwriting at full speed, us", ("sans-serif", 20))
        .margin(10)
        .x_label_area_size(30)
        .y_label_area_size(70)
        .build_cartesian_2d(-0.2..4.2, (0.1..most).log_scale())?;
    chart
        .configure_mesh()
        .x_labels(5)
        .x_label_formatter(&|x: &f64| {
            let index = x.round();
            let near = (x - index).abs() < 0.01 && index >= 0.0;
            near.then(|| names.get(index as usize)).flatten().copied().unwrap_or("").to_owned()
        })
        .draw()?;
    for (index, line) in &lines {
        let colour = COLOURS[*index];
        let points = line.iter().enumerate().map(|(at, value)| (at as f64, *value));
        chart
            .draw_series(LineSeries::new(points.clone(), colour.stroke_width(2)))?
            .label(engines::NAMES[*index])
            .legend(move |(x, y)| Rectangle::new([(x, y - 4), (x + 12, y + 4)], colour.filled()));
        chart.draw_series(points.map(|at| Circle::new(at, 4, colour.filled())))?;
    }
    chart.configure_series_labels().border_style(BLACK).background_style(WHITE).draw()?;
    area.present()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::canned;

    #[test]
    fn charts_are_drawn_from_few_results() {
        let directory = std::env::temp_dir().join(format!("compare-chart-{}", std::process::id()));
        write(&canned(), &directory).unwrap();
        let text = std::fs::read_to_string(directory.join("ratios.svg")).unwrap();
        assert!(text.contains("fillrandom"), "{text}");
        std::fs::remove_dir_all(directory).unwrap();
    }
}
