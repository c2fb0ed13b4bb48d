"""`python -m glassgrad demo` trains a network, `doctor` looks for what is missing, `config` prints what is used."""

from __future__ import annotations

import argparse

import glassgrad as gg


def main() -> None:
    """Reads the command line and runs one command."""
    parser = argparse.ArgumentParser(prog="python -m glassgrad", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    demo = commands.add_parser("demo", help="train a convolutional network on handwritten digits")
    demo.add_argument(
        "--data", metavar="DIR", help="a folder with MNIST's standard gzipped files; else scikit-learn's digits"
    )
    demo.add_argument("--out", metavar="DIR", default="glassgrad_demo", help="where the picture and the weights go")
    demo.add_argument("--epochs", type=int, help="passes over the data")
    demo.add_argument("--device", default="cpu", help="where to train: cpu, cuda, or simt")
    demo.add_argument("--seed", type=int, default=0, help="of the weights and the order of the data")
    commands.add_parser("config", help="print what was built and what is used")
    commands.add_parser("doctor", help="print what this machine and build have, and what to do about the rest")
    arguments = parser.parse_args()
    if arguments.command == "config":
        for name, value in gg.config().items():
            print(f"{name:12} {value}")
        return
    if arguments.command == "doctor":
        from glassgrad.doctor import report

        found, advice = report()
        print("\n".join([*found, "", *(advice or ["Nothing is missing."])]))
        return
    from glassgrad.demo import run

    run(arguments.data, arguments.out, arguments.epochs, arguments.seed, arguments.device)


if __name__ == "__main__":
    main()
