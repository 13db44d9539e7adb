#include "bench/figure.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "tiering/base/bytes.h"
#include "tiering/base/check.h"

namespace kvtier::bench {
namespace {

std::string PagesText(int64_t page_bytes) {
  return page_bytes == 0 ? "-" : FormatBytes(Bytes(page_bytes));
}

}  // namespace

std::string FiguresToJson(absl::Span<const Figure> figures) {
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  for (const Figure& figure : figures) {
    list.push_back({{"name", figure.name},
                    {"value", figure.value},
                    {"p50", figure.p50},
                    {"p99", figure.p99},
                    {"unit", figure.unit},
                    {"ceiling", figure.ceiling},
                    {"ratio", figure.ratio},
                    {"runs", figure.runs},
                    {"page_bytes", figure.page_bytes},
                    {"note", figure.note}});
  }
  return nlohmann::ordered_json{{"figures", std::move(list)}}.dump(2);
}

std::string FiguresToText(absl::Span<const Figure> figures) {
  std::string table =
      absl::StrFormat("%-36s %8s %10s %10s %10s %-8s %10s %7s %6s\n", "figure", "pages", "value",
                      "p50", "p99", "unit", "ceiling", "ratio", "runs");
  std::string notes;
  std::set<std::string> named;
  for (const Figure& first : figures) {
    if (!named.insert(first.name).second) continue;
    for (const Figure& figure : figures) {
      if (figure.name != first.name) continue;
      const bool again = &figure != &first;
      const std::string pages = PagesText(figure.page_bytes);
      absl::StrAppendFormat(&table, "%-36s %8s %10.3f %10.3f %10.3f %-8s %10.3f %7.3f %6d\n",
                            again ? "" : figure.name, pages, figure.value, figure.p50, figure.p99,
                            figure.unit, figure.ceiling, figure.ratio, figure.runs);
      absl::StrAppend(&notes, again ? absl::StrCat("  in pages of ", pages) : figure.name, ": ",
                      figure.note, "\n");
    }
  }
  return table + notes;
}

double Quantile(std::vector<double> samples, double fraction) {
  KVTIER_CHECK(!samples.empty());
  const double scaled = fraction * static_cast<double>(samples.size() - 1);
  const auto rank =
      static_cast<size_t>(std::clamp(scaled + 0.5, 0.0, static_cast<double>(samples.size() - 1)));
  std::nth_element(samples.begin(), samples.begin() + static_cast<std::ptrdiff_t>(rank),
                   samples.end());
  return samples[rank];
}

}  // namespace kvtier::bench
