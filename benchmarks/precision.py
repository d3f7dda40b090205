"""How far each default metric moves when the forward pass is in half precision.

    python benchmarks/precision.py

On the shipped models and 200 images: the largest relative deviation of a layer's mean from float32.
"""

import whitebox_probe as wp

MODELS = ("crate-tiny-fmnist", "vit-tiny-fmnist")
DTYPES = ("bfloat16", "float16")


def main():
    print("| metric | model | " + " | ".join(DTYPES) + " |")
    print("|---|---|" + "---|" * len(DTYPES))
    for name in MODELS:
        model = wp.load(name)
        options = {"limit": 200, "progress": False}
        runs = {d: wp.probe(model, "fashion-mnist", dtype=d, **options) for d in DTYPES}
        exact = wp.probe(model, "fashion-mnist", **options).frame
        sampled = exact[exact["site"] != "weights"]
        for metric in sampled["metric"].unique():
            rows = exact[exact["metric"] == metric]
            cells = []
            for dtype in DTYPES:
                other = runs[dtype].frame.loc[rows.index, "mean"]
                cells.append(f"{((other - rows['mean']) / rows['mean']).abs().max():.1e}")
            print(f"| `{metric}` | {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
