// A process that reads in place and outlives daemons. It says "ready" once it is attached, then
// takes these lines and answers each with one:
//   store SEED CHUNKS     stores a chain in place: "stored"
//   hold CHUNKS SEED...   leases the chains, enters a section, and in it finds and compares every
//                         block; stays in it: "held BLOCKS"
//   check                 compares the bytes at the addresses that it found: "same BLOCKS"
//   lose                  waits until the daemon's end is noticed; no new section is to be had
//   then,
//                         and nothing is found: "lost"
//   go_on SEED CHUNKS     waits for the next daemon, compares as before, leaves the section, and
//                         stores and reads a chain in place: "went_on CHUNKS"
// What goes wrong is answered with "error: STATUS". At the end of its input it ends.

#include <cstring>
#include <iostream>
#include <optional>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "tests/support/client_blocks.h"
#include "tiering/base/status_macros.h"

namespace kvtier::test_support {
namespace {

constexpr absl::Duration kPatience = absl::Seconds(60);

class SectionReader {
 public:
  SectionReader(Client* client, Model model) : client_(client), model_(std::move(model)) {}

  absl::StatusOr<std::string> Obey(const std::string& line) {
    std::istringstream words(line);
    std::string what;
    words >> what;
    std::vector<uint64_t> numbers;
    for (uint64_t number = 0; words >> number;) numbers.push_back(number);
    if (what == "store") return Store(numbers.at(0), numbers.at(1));
    if (what == "hold") return Hold(numbers);
    if (what == "check") return Check();
    if (what == "lose") return Lose();
    if (what == "go_on") return GoOn(numbers.at(0), numbers.at(1));
    return absl::InvalidArgumentError(absl::StrCat("not understood: ", line));
  }

 private:
  struct Held {
    Key key{};
    uint32_t plane = 0;
    BlockView view;
  };

  absl::StatusOr<std::string> Store(uint64_t seed, size_t chunks) {
    const std::vector<Key> keys = ChainKeys(model_, seed, chunks);
    KVTIER_RETURN_IF_ERROR(StoreChunks(*client_, model_, {.keys = keys, .count = chunks}).status());
    return "stored";
  }

  absl::StatusOr<std::string> Hold(const std::vector<uint64_t>& numbers) {
    const size_t chunks = numbers.at(0);
    std::vector<std::pair<LeaseHandle, std::vector<Key>>> leases;
    for (size_t i = 1; i < numbers.size(); ++i) {
      std::vector<Key> keys = ChainKeys(model_, numbers[i], chunks);
      KVTIER_ASSIGN_OR_RETURN(const Match match, client_->Lookup({.model = model_, .keys = keys}));
      if (match.chunks != chunks)
        return absl::NotFoundError(absl::StrCat(match.chunks, " chunks of chain ", numbers[i]));
      leases.emplace_back(match.lease, std::move(keys));
    }
    KVTIER_ASSIGN_OR_RETURN(section_, client_->EnterSection());
    std::vector<BlockView> views(model_.geometry().planes.size());
    for (const auto& [lease, keys] : leases) {
      for (uint32_t chunk = 0; chunk < chunks; ++chunk) {
        KVTIER_RETURN_IF_ERROR(
            section_->ResolveChunk(lease, chunk, absl::MakeSpan(views)).status());
        for (uint32_t plane = 0; plane < views.size(); ++plane)
          held_.push_back({keys[chunk], plane, views[plane]});
      }
    }
    KVTIER_RETURN_IF_ERROR(Check().status());
    return absl::StrCat("held ", held_.size());
  }

  absl::StatusOr<std::string> Check() const {
    for (const Held& block : held_) {
      const std::string name = absl::StrCat(KeyHex(block.key), " plane ", block.plane);
      if (block.view.data == nullptr)
        return absl::Status(block.view.code, absl::StrCat(name, " has no address"));
      const std::vector<std::byte> bytes = BlockBytes(block.key, block.plane, block.view.bytes);
      if (std::memcmp(block.view.data, bytes.data(), bytes.size()) != 0)
        return absl::DataLossError(absl::StrCat(name, ": not the bytes of this block"));
    }
    return absl::StrCat("same ", held_.size());
  }

  absl::StatusOr<std::string> Lose() {
    // A call notices first.
    const absl::Status lookup =
        client_->Lookup({.model = model_, .keys = ChainKeys(model_, 0, 1)}).status();
    const absl::Time deadline = absl::Now() + kPatience;
    while (client_->attached()) {
      if (absl::Now() > deadline) return absl::DeadlineExceededError("still attached");
    }
    const absl::Status section = client_->EnterSection().status();
    for (const absl::Status& status : {section, lookup}) {
      if (!absl::IsUnavailable(status))
        return absl::InternalError(absl::StrCat("without a daemon: ", status.ToString()));
    }
    return "lost";
  }

  absl::StatusOr<std::string> GoOn(uint64_t seed, size_t chunks) {
    KVTIER_RETURN_IF_ERROR(client_->WaitAttached(kPatience));
    // The old memory beside the new.
    KVTIER_RETURN_IF_ERROR(Check().status());
    held_.clear();
    section_.reset();
    KVTIER_RETURN_IF_ERROR(Store(seed, chunks).status());
    KVTIER_ASSIGN_OR_RETURN(const uint32_t read,
                            ReadChunksInPlace(*client_, model_, ChainKeys(model_, seed, chunks)));
    return absl::StrCat("went_on ", read);
  }

  Client* client_;
  Model model_;
  std::optional<ReadSection> section_;
  std::vector<Held> held_;
};

absl::Status Run(const std::string& socket) {
  ClientOptions options;
  options.socket = socket;
  options.name = "section_reader";
  options.transport = Transport::kSharedMemory;
  options.unavailable_after = absl::Seconds(10);
  options.report_every = 0;  // what it reads is no reason to move anything
  KVTIER_ASSIGN_OR_RETURN(const std::unique_ptr<Client> client, Client::Connect(options));
  KVTIER_ASSIGN_OR_RETURN(const Model model, client->RegisterModel(UnequalModel()));
  SectionReader reader(client.get(), model);
  std::cout << "ready" << std::endl;
  for (std::string line; std::getline(std::cin, line);) {
    const absl::StatusOr<std::string> answer = reader.Obey(line);
    std::cout << (answer.ok() ? *answer : absl::StrCat("error: ", answer.status().ToString()))
              << std::endl;
  }
  return absl::OkStatus();
}

}  // namespace
}  // namespace kvtier::test_support

int main(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "usage: section_reader SOCKET\n";
    return 2;
  }
  const absl::Status status = kvtier::test_support::Run(argv[1]);
  if (status.ok()) return 0;
  std::cout << "error: " << status.ToString() << std::endl;
  return 1;
}
