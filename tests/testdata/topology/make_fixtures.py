#!/usr/bin/env python3
"""Makes the machine descriptions beside this file; needs lstopo of hwloc 2.9.

Bare machines are exported by lstopo from a synthetic description. Synthetic descriptions cannot
hold PCI devices, so those are added: for each device a host bridge, a PCI bridge and the device,
before its package's closing tag. Bus ids and sizes are those of machines of that kind, not copied from one.
"""
import pathlib
import re
import subprocess

GIB = 1 << 30
GPU = ("0302", "10de:2330")         # a GPU without display output
NVSWITCH = ("0680", "10de:22a3")    # NVIDIA's too, but no GPU
NETWORK = ("0207", "15b3:1021")


def export(description, product):
    # hwloc writes the same text everywhere but for these.
    xml = subprocess.run(["lstopo-no-graphics", "--input", description, "--of", "xml"], check=True,
                         capture_output=True, text=True).stdout
    xml = re.sub(r'\s*<info name="(ProcessName|hwlocVersion)"[^>]*/>', "", xml)
    return xml.replace('<info name="Backend"', f'<info name="DMIProductName" value="{product}"/>\n'
                       '    <info name="Backend"', 1)


def add_devices(xml, per_package):
    """Puts per_package[i], a list of (bus, (class, vendor:device)), below the i-th package."""
    index = 100000
    parts = re.split(r"(?m)^    </object>\n", xml)
    for package, devices in enumerate(per_package):
        lines = []
        for bus, (pci_class, ids) in devices:
            above = bus - 1
            lines.append(
                f'      <object type="Bridge" gp_index="{index}" bridge_type="0-1" depth="0" '
                f'bridge_pci="0000:[{above:02x}-{bus:02x}]">\n'
                f'        <object type="Bridge" gp_index="{index + 1}" bridge_type="1-1" depth="1" '
                f'bridge_pci="0000:[{bus:02x}-{bus:02x}]" pci_busid="0000:{above:02x}:01.0" '
                f'pci_type="0604 [8086:352a] [0000:0000] 30" pci_link_speed="63.015385">\n'
                f'          <object type="PCIDev" gp_index="{index + 2}" '
                f'pci_busid="0000:{bus:02x}:00.0" '
                f'pci_type="{pci_class} [{ids}] [0000:0000] a1" pci_link_speed="63.015385"/>\n'
                "        </object>\n      </object>\n")
            index += 3
        parts[package] += "".join(lines)
    return "    </object>\n".join(parts)


def main():
    here = pathlib.Path(__file__).parent
    machines = {
        "one_node": export(f"pack:1 [numa(memory={16 * GIB})] core:2 pu:1", "One node"),
        "two_nodes": export(f"pack:2 [numa(memory={64 * GIB})] core:4 pu:2", "Two nodes"),
        "dgx_h100_like": add_devices(
            export(f"pack:2 [numa(memory={1024 * GIB})] core:8 pu:2", "DGX H100 like"),
            [[(bus, GPU) for bus in (0x1b, 0x43, 0x52, 0x61)] + [(0x18, NETWORK)],
             [(bus, GPU) for bus in (0x9d, 0xc3, 0xd1, 0xdf)] + [(0x87, NVSWITCH)]]),
        "grace_hopper_like": export(
            f"[numa(memory={480 * GIB})] [numa(memory={96 * GIB})] pack:1 core:4 pu:1",
            "Grace Hopper like"),
    }
    # As hwloc 2.11 and later mark it.
    machines["grace_hopper_like"] = re.sub(r'type="NUMANode" os_index="1"',
                                           'type="NUMANode" subtype="GPUMemory" os_index="1"',
                                           machines["grace_hopper_like"])
    for name, xml in machines.items():
        (here / f"{name}.xml").write_text(xml)


if __name__ == "__main__":
    main()
